# What the toolstack does to a guest's devices, as the guest's command line says
# (tests/load/src/devices.rs is its other side): "before" the guest is created, when it is
# "created", and "beside" it, with its number.
says() {
    grep -q "$1" /job/guest.cfg
}
home=/local/domain/$2
# Waits until the guest says so.
until_it_says() {
    until [ "$(xenstore-read "$home/data/devices" 2>/dev/null)" = "$1" ]; do
        usleep 20000
    done
}
case $1 in
before)
    if says quota=; then
        nodes=$(sed -n 's/.*quota=\([0-9]*\).*/\1/p' /job/guest.cfg)
        xenstore-control quota set nodes "$nodes"
    fi
    ;;
created)
    if says devices=refused; then
        xenstore-write "$home/device/vbd/51712/backend-id" 7
    fi
    ;;
beside)
    if says devices=close; then
        until_it_says closed
        for disk in xvda xvdb; do
            xl block-detach guest $disk
            echo "dom0: block-detach of $disk ended with $?"
        done
        xl network-detach guest 0
        echo "dom0: network-detach ended with $?"
    fi
    if says devices=cycles; then
        cycles=$(sed -n 's/.* cycles=\([0-9]*\).*/\1/p' /job/guest.cfg)
        cycle=0
        while [ $((cycle += 1)) -le "$cycles" ]; do
            until_it_says $cycle
            xl block-detach guest xvda || echo "dom0: FAILED: detach $cycle"
            [ $cycle = "$cycles" ] && break
            xl block-attach guest phy:/dev/ram0 xvda r || echo "dom0: FAILED: attach $cycle"
        done
        until_it_says "done"
        echo "dom0: $cycle cycles; $(xenstore-list "$home/device/vbd" 2>/dev/null | wc -l) frontends," \
            "$(xenstore-list "/local/domain/0/backend/vbd/$2" 2>/dev/null | wc -l) backends," \
            "$(ls /sys/bus/xen-backend/devices | grep -c vbd) devices are left"
        xenstore-write "$home/data/devices" "counted"
    fi
    ;;
esac
