# What happens to the disk of domain $1, again and again: it grows, its backend
# starts anew, it fails, and it is taken away and given back.
guest=$1
driver=/sys/bus/xen-backend/drivers/vbd
disk() { # makes it another, at once
    dmsetup load trouble --table "0 $1"
    dmsetup suspend --noudevsync trouble
    dmsetup resume --noudevsync trouble
}
sectors=16384
rounds=0
while :; do
    sectors=$((sectors + 2048))
    disk "$sectors linear /dev/ram0 0"
    sleep 0.7
    for device in "$driver/vbd-$guest-"*; do
        echo "${device##*/}" >$driver/unbind
        # It takes up the old ring if the guest has not seen it go.
        sleep 0.2
        echo "${device##*/}" >$driver/bind
    done
    sleep 0.7
    disk "$sectors error"
    sleep 0.4
    disk "$sectors linear /dev/ram0 0"
    sleep 0.7
    xl block-detach "$guest" xvda
    xl block-attach "$guest" phy:/dev/dm-0,xvda,w
    sleep 0.7
    rounds=$((rounds + 1))
    echo "dom0: trouble, round $rounds"
done
