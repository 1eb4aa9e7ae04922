# Looks at one guest from its first instruction, as /job/scene says (linux-load's "scene").
# Its end is not its own: it is destroyed.
mapper=$(awk '$2 == "device-mapper" { print $1 }' /proc/devices)
while read -r index first sectors; do
    dmsetup create --noudevsync -r -j "$mapper" -m "$((16 + index))" "lent$index" \
        --table "0 $sectors linear /dev/vda $first"
done </job/lent
if ! xl create -q -p /job/guest.cfg >/job/create.log 2>&1; then
    cat /job/create.log
    echo "$mark refused"
    exit
fi
domid=$(xl domid guest)
# Its place is known beforehand: nobody waits for an answer that is late. (The shell's own
# ip cannot do that.)
ip=/usr/bin/ip
$ip address add 10.0.3.1/24 dev xenbr0
$ip -6 address add fd00:3::1/64 dev xenbr0 nodad
for address in 10.0.3.2 fd00:3::2; do
    $ip neigh add "$address" lladdr 00:16:3e:00:00:01 dev xenbr0 nud permanent
done
chmod +x /job/bench
until terminal=$(xenstore-read "/local/domain/$domid/console/tty" 2>/dev/null); do
    usleep 10000
done
echo "$mark begin"
eval "/job/bench scene $domid $terminal $(cat /job/scene)" 2>&1
echo "$mark log"
xl destroy guest
echo "$mark end reason code 0"
