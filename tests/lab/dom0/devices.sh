# What the toolstack does to a guest's devices, as the guest's command line says
# (tests/load/src/devices.rs is its other side): "before" the guest is created, when it is
# "created", and "beside" it, with its number.
says() {
    grep -q "$1" /job/guest.cfg
}
number_of() {
    sed -n "s/.* $1=\([0-9]*\).*/\1/p" /job/guest.cfg
}
home=/local/domain/$2
# What the guest says last.
says_done() {
    [ "$(xenstore-read "$home/data/devices" 2>/dev/null)" = "done" ]
}
# Waits until the guest says so.
until_it_says() {
    until [ "$(xenstore-read "$home/data/devices" 2>/dev/null)" = "$1" ]; do
        usleep 20000
    done
}
# Makes the disk of flushes another, at once: its cache is domain 0's, and is written when
# the guest asks for it.
beneath() {
    dmsetup load trouble --table "0 16384 $1"
    dmsetup suspend --noudevsync trouble
    dmsetup resume --noudevsync trouble
}
linear="linear /dev/ram0 65536"
driver=/sys/bus/xen-backend/drivers/vbd
case $1 in
before)
    if says devices=odd; then
        dmsetup create --noudevsync trouble --table "0 16384 $linear"
        losetup /dev/loop6 /dev/dm-0
        # A file system that can make holes, and one that cannot.
        mount -t ramfs ramfs /mnt
        for image in /mnt/image /run/image; do
            dd if=/dev/zero of=$image bs=1M count=4 2>/dev/null
        done
        losetup /dev/loop4 /mnt/image
        losetup /dev/loop5 /run/image
    fi
    if says quota=; then
        xenstore-control quota set nodes "$(number_of quota)"
    fi
    ;;
created)
    if says devices=odd; then
        xenstore-write "$home/device/vbd/51712/backend-id" "$(printf ' 0\n ')"
        # Its backend comes when the guest has done all that it can without.
        echo "vbd-$2-51712" >$driver/unbind
    fi
    if says devices=refused; then
        xenstore-write "$home/device/vbd/51712/backend-id" 7
    fi
    if says nics=; then
        # The other side of the guest's interface, as tests/load/src/wire.rs has it.
        ip address add 10.0.3.1/24 dev xenbr0
        ip -6 address add fd00::1/64 dev xenbr0
    fi
    if says devices=stale-nic; then
        # As if a frontend with four queues and all features had been there.
        for key in multi-queue-num-queues=4 request-multicast-control=1 \
            ctrl-ring-ref=9 event-channel-ctrl=9 tx-ring-ref=9 rx-ring-ref=9 \
            event-channel=9 event-channel-tx=9 event-channel-rx=9 \
            queue-0/tx-ring-ref=9 queue-0/rx-ring-ref=9 queue-0/event-channel=9 \
            queue-3/tx-ring-ref=9 queue-3/rx-ring-ref=9 queue-3/event-channel=9 \
            feature-no-csum-offload=1 feature-gso-tcpv4-prefix=1 \
            feature-gso-tcpv6-prefix=1 xdp-headroom=256; do
            xenstore-write "$home/device/vif/0/${key%%=*}" "${key#*=}"
        done
    fi
    if says devices=offloads; then
        chmod +x /job/load
        xenstore-write "$home/data/mac" "$(cat /sys/class/net/xenbr0/address)"
    fi
    ;;
beside)
    if says devices=odd; then
        backend=/local/domain/0/backend/vbd/$2/51712
        until [ "$(xenstore-read "$home/device/vbd/51712/state")" = 3 ]; do
            usleep 20000
        done
        xl pause guest
        echo "vbd-$2-51712" >$driver/bind
        until [ "$(xenstore-read "$backend/state")" = 4 ]; do
            usleep 20000
        done
        # What the backend wrote when it connected, the guest has not read yet.
        sectors=$(xenstore-read "$backend/sectors")
        xenstore-write "$backend/physical-sector-size" 0 \
            "$backend/sectors" "$(printf '\t%s\n ' "$sectors")" \
            "$backend/info" ' 0\x00' \
            "$backend/feature-discard" '1\x00' \
            "$backend/discard-granularity" ' 8192\x00' \
            "$backend/discard-alignment" ' -1'
        echo "dom0: info is $(xenstore-read "$backend/info")"
        xl unpause guest
        until_it_says flushed
        beneath error
        xenstore-write "$home/data/devices" failing
        until_it_says failed
        beneath "$linear"
        xenstore-write "$home/data/devices" working
    fi
    if says devices=close; then
        until_it_says closed
        for disk in xvda xvdb; do
            xl block-detach guest $disk
            echo "dom0: block-detach of $disk ended with $?"
        done
        xl network-detach guest 0
        echo "dom0: network-detach ended with $?"
    fi
    if says devices=offloads; then
        /job/load serve &
        load=$!
        until says_done; do
            usleep 100000
        done
        kill $load
    fi
    if says devices=cycles; then
        cycles=$(number_of cycles)
        cycle=0
        while [ $((cycle += 1)) -le "$cycles" ]; do
            until_it_says $cycle
            if says disks=1; then
                xl block-detach guest xvda || echo "dom0: FAILED: detach $cycle of the disk"
            fi
            if says nics=1; then
                xl network-detach guest 0 || echo "dom0: FAILED: detach $cycle of the interface"
            fi
            [ $cycle = "$cycles" ] && break
            if says disks=1; then
                xl block-attach guest phy:/dev/ram0 xvda r \
                    || echo "dom0: FAILED: attach $cycle of the disk"
            fi
            if says nics=1; then
                xl network-attach guest mac=00:16:3e:00:01:00 bridge=xenbr0 script=vif \
                    || echo "dom0: FAILED: attach $cycle of the interface"
            fi
        done
        until_it_says "done"
        for kind in vbd vif; do
            echo "dom0: $kind, $cycles cycles:" \
                "$(xenstore-list "$home/device/$kind" 2>/dev/null | wc -l) frontends," \
                "$(xenstore-list "/local/domain/0/backend/$kind/$2" 2>/dev/null | wc -l) backends," \
                "$(ls /sys/bus/xen-backend/devices | grep -c $kind) devices are left"
        done
        echo "dom0: $(ls /sys/class/net | grep -c vif) interfaces are left"
        xenstore-write "$home/data/devices" "counted"
    fi
    ;;
esac
