# Runs one guest: its console is shown here, its end is told behind a mark, "$mark",
# which no guest knows. There may be others, whose words are told afterwards: with /job/peer.cfg a second
# guest, with /job/linux-peer a process of this domain in its place, with /job/xs
# somebody who answers in the guest's part of the store, and with /job/busy
# others who work there; with /job/toolstack the guest is suspended and resumed
# whenever it writes "suspend" to data/please, and with /job/trouble its disk is,
# instead of a file, one that trouble comes to; with /job/silence the console's daemon is
# stopped; with /job/outward this domain tries to reach an address outside; with /job/bench
# it is a RAM disk, and
# there are a server and one who counts what the guest and this domain do.
xl dmesg -c >/dev/null
create() {
    if ! xl create -q -p "/job/$1.cfg" >/job/create.log 2>&1; then
        cat /job/create.log
        echo "$mark refused"
        exit
    fi
}
reason() { # why a guest ended; 2 is a suspend, after which it goes on
    grep -o 'reason code [0-9]*' "/var/log/xen/xl-$1.log" | grep -v 'code 2$' | head -n 1
}
ended() { # waits for the end of a guest
    tries=0
    until [ -n "$(reason "$1")" ] || [ $tries -ge "$2" ]; do
        tries=$((tries + 1))
        usleep 50000
    done
}
for disk in /job/disk*; do
    [ -f "$disk" ] && losetup "/dev/loop${disk#/job/disk}" "$disk"
done
# Disks that are only read stay on the disk by which this job came in.
mapper=$(awk '$2 == "device-mapper" { print $1 }' /proc/devices)
while read -r index first sectors; do
    dmsetup create --noudevsync -r -j "$mapper" -m "$((16 + index))" "lent$index" \
        --table "0 $sectors linear /dev/vda $first"
done </job/lent
if [ -f /job/trouble ]; then
    dmsetup create --noudevsync trouble --table "0 16384 linear /dev/ram0 0"
fi
if [ -f /job/check ]; then
    # A file for the guest to find.
    read -r kind start </job/check
    losetup -o "$start" /dev/loop7 /job/disk0
    mount -t "$kind" /dev/loop7 /mnt
    echo "Linux wrote this." >/mnt/LINUX.TXT
    umount /mnt
    losetup -d /dev/loop7
fi
if [ -f /job/devices ]; then sh /job/devices before; fi
create guest
domid=$(xl domid guest)
home=/local/domain/$domid/data
if [ -f /job/peer.cfg ]; then
    create peer
    peer=$(xl domid peer)
    xenstore-write "$home/peer" "$peer" "/local/domain/$peer/data/peer" "$domid"
    : >/job/peer.log
    (sleep 0.05; xl unpause peer) &
fi
if [ -f /job/linux-peer ]; then
    chmod +x /job/linux-peer
    xenstore-write "$home/peer" 0 /local/domain/0/data ""
    /job/linux-peer back "$domid" 10000 >/job/peer.log 2>&1 &
fi
if [ -f /job/xs ]; then
    chmod +x /job/xs
    : >/job/peer.log
    if [ -f /job/busy ]; then
        xenstore-write "$home/conformance-long" 1000
        xenstore-chmod "$home/conformance-long" n0 "r$domid"
        echo "dom0: $(/job/xs --by socket fill "$home/conformance-long" 1000)"
        echo "dom0: $(xenstore-list "$home/conformance-long" | wc -l) by Linux's own tool"
    fi >>/job/peer.log
    xenstore-write "$home/echo" ""
    (/job/xs --by device --timeout 60 echo "$home/echo"; echo "dom0: echo ended with $?") >>/job/peer.log 2>&1 &
fi
if [ -f /job/busy ]; then
    (while xenstore-write "$home/noise" "$((noise += 1))"; do :; done) >/dev/null 2>&1 &
    noise=$!
fi
if [ -f /job/visit6 ] && grep -q ip6= /job/guest.cfg; then
    url=$(cat /job/visit6)
    ip -6 addr add fd00::1/64 dev xenbr0
    : >/job/peer.log
    (until text=$(wget -q -T 5 -O - "$url" 2>&1); do usleep 200000; done
    echo "dom0: $url: $text" >>/job/peer.log) &
fi
if [ -f /job/outward ]; then
    # An address of the bridge's network: what is sent there goes to the lab's card.
    ip address add 10.0.2.77/24 dev xenbr0
    target=$(sed -n 's/.*outward=\([0-9.:]*\).*/\1/p' /job/guest.cfg)
    answer=nobody
    timeout 5 nc -w 3 "${target%:*}" "${target#*:}" </dev/null && answer=somebody
    echo "dom0: outward: tried $target" >/job/peer.log
    echo "dom0: outward: $answer answers" >>/job/peer.log
fi
if [ -f /job/bench ]; then
    chmod +x /job/bench
    # Its memory is there only when something was written.
    dd if=/dev/zero of=/dev/ram0 bs=1M count=64 oflag=direct 2>/dev/null
    ip address add 10.0.3.1/24 dev xenbr0
    /job/bench serve &
    server=$!
    /job/bench watch "$domid" /var/log/xen/console/guest-guest.log >/job/peer.log 2>&1 &
fi
if [ -f /job/devices ]; then
    : >/job/peer.log
    sh /job/devices created "$domid"
    sh /job/devices beside "$domid" >>/job/peer.log 2>&1 &
    devices=$!
fi
if [ -f /job/silence ]; then
    : >/job/peer.log
    sh /job/silence "$domid" >>/job/peer.log 2>&1 &
    silence=$!
fi
if [ -f /job/trouble ]; then
    : >/job/peer.log
    sh /job/trouble "$domid" >>/job/peer.log 2>&1 &
    trouble=$!
fi
if [ -f /job/toolstack ]; then
    please=$home/please
    xenstore-write "$please" ""
    xenstore-chmod "$please" "n$domid"
    xenstore-watch "$please" | while read -r _; do
        [ "$(xenstore-read "$please")" = suspend ] || continue
        # From Xen 4.19 on.
        if xl help | grep -q ' suspend '; then
            xl suspend guest && xl resume guest
            xenstore-write "$please" "done"
        else
            xenstore-write "$please" cannot
        fi
    done >/job/toolstack.log 2>&1 &
fi
console=/var/log/xen/console/guest-guest.log
until [ -f "$console" ]; do usleep 10000; done
exec 3<"$console"
echo "$mark begin"
# What the daemon records is complete and in order. The terminal that it makes, which is
# here for the guest's input, loses what was not read when the guest ends.
if [ ! -f /job/bench ]; then
    (until [ -f /job/ended ]; do cat <&3; usleep 50000; done) &
    follower=$!
fi
(sleep 0.05; xl unpause guest) &
xenconsole "$domid" --num 0 --interactive >/dev/null
ended guest 20
: >/job/ended
[ -n "$follower" ] && wait "$follower"
cat <&3
[ -n "$trouble" ] && kill "$trouble"
# It tells of the end, and lets the daemon go on.
[ -n "$silence" ] && wait "$silence"
[ -n "$devices" ] && kill "$devices" 2>/dev/null
[ -n "$server" ] && kill "$server"
echo
echo "$mark peers"
if [ -f /job/check ]; then
    # What the guest left on its disk, as Linux sees it.
    while read -r kind start; do
        losetup -o "$start" /dev/loop7 /job/disk0
        case $kind in
        vfat) fsck.fat -n /dev/loop7 ;;
        *) e2fsck -f -n /dev/loop7 ;;
        esac >/job/fsck.log 2>&1
        status=$?
        echo "dom0: fsck of $kind ended with $status"
        [ $status = 0 ] || cat /job/fsck.log
        if mount -t "$kind" -o ro /dev/loop7 /mnt; then
            if [ -f /mnt/SHA256SUMS ]; then
                (cd /mnt && sha256sum -c SHA256SUMS) | sed 's/^/dom0: /'
            fi
            if [ -f /mnt/GUEST.TXT ]; then
                awk 'BEGIN { while (++i <= 10000) printf "line %05d\n", i }' | head -c 100000 |
                    cmp - /mnt/GUEST.TXT \
                    && echo "dom0: GUEST.TXT is what the guest wrote"
            fi
            umount /mnt
        fi
        losetup -d /dev/loop7
    done </job/check
fi
if [ -f /job/peer.log ]; then
    if [ -f /job/peer.cfg ]; then
        ended peer 100
        cat /var/log/xen/console/guest-peer.log >>/job/peer.log
    fi
    [ -n "$noise" ] && kill "$noise"
    usleep 200000
    echo
    cat /job/peer.log
    echo
fi
echo "$mark log"
xl dmesg
echo "$mark end $(reason guest)"
