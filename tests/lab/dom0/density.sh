# Starts one guest after the other, until there is no memory for another, and asks them all.
# One that is refused on a busy machine, for a script took too long, is left out.
# /job/guest.cfg is each one's: @NUMBER@ and @ADDRESS@ are its own.
mapper=$(awk '$2 == "device-mapper" { print $1 }' /proc/devices)
[ ! -e /job/lent ] || while read -r index first sectors; do
    dmsetup create --noudevsync -r -j "$mapper" -m "$((16 + index))" "lent$index" \
        --table "0 $sectors linear /dev/vda $first"
done </job/lent
read -r filler_mib dom0_mib most server </job/density
ip address add 10.9.255.1/16 dev xenbr0
chmod +x /job/bench
echo "$mark begin"
# What the machine has more than the host that is meant.
cat >/job/filler.cfg <<END
name="filler"
type="pvh"
kernel="/job/image"
memory=$filler_mib
END
xl create -q -p -e /job/filler.cfg
# Its backends' memory is domain 0's: it is given what they need first.
xl mem-set Domain-0 "$dom0_mib"
until [ "$(xl list | awk '$1 == "Domain-0" { print $3 }')" -ge "$dom0_mib" ]; do
    usleep 100000
done
memory() {
    xl info | sed -n 's/^free_memory *: *//p'
}
needed=$(sed -n 's/^memory=//p' /job/guest.cfg)
count=0
refused=0
left=$(memory)
while [ $count -lt "$most" ] && [ $refused -lt 3 ]; do
    # Each look costs as much as a part of a guest: a guess does, until that says no.
    [ "$left" -gt "$needed" ] || left=$(memory)
    [ "$left" -gt "$needed" ] || break
    left=$((left - needed - 1))
    address=10.9.$((count / 200)).$((count % 200 + 1))
    sed "s/@NUMBER@/$count/; s/@ADDRESS@/$address/" /job/guest.cfg >/job/one.cfg
    # Without a process that waits for its end.
    if ! xl create -q -e /job/one.cfg >/job/create.log 2>&1; then
        refused=$((refused + 1))
        echo "dom0: guest $count is refused: $(tail -n 1 /job/create.log)"
    fi
    count=$((count + 1))
    [ $((count % 50)) != 0 ] ||
        echo "dom0: $count guests, $(sed -n 's/^MemFree: *//p' /proc/meminfo) of domain 0 are left"
done
xl list | sed -n 's/^guest\([0-9]*\)  *\([0-9]*\) .*/\2 \1/p' >/job/guests
echo "dom0: $(wc -l </job/guests) guests, $(memory) MiB are left"
/job/bench density "$server" /job/guests 2>&1
echo "$mark log"
echo "$mark end reason code 0"
