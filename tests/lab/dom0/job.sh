# Runs one guest: its console is this one, its end is told behind a mark.
xl dmesg -c >/dev/null
if ! xl create -q -p /job/guest.cfg >/job/create.log 2>&1; then
    cat /job/create.log
    echo "@@LAB refused"
    exit
fi
echo "@@LAB begin"
(sleep 0.05; xl unpause guest) &
xl console guest
tries=0
until grep -q 'reason code' /var/log/xen/xl-guest.log || [ $tries -ge 20 ]; do
    tries=$((tries + 1))
    usleep 50000
done
echo
echo "@@LAB log"
xl dmesg
echo "@@LAB end $(grep -o 'reason code [0-9]*' /var/log/xen/xl-guest.log | head -n 1)"
