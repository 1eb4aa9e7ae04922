# Stops the console's daemon when domain $1 asks for it, as its command line says
# (tests/conformance/src/silence.rs is the other side): for so many seconds, or until the
# guest has ended.
home=/local/domain/$1/data
how=$(sed -n 's/.*silence=\([a-z0-9]*\).*/\1/p' /job/guest.cfg)
daemon=$(cat /run/xenconsoled.pid)
until [ "$(xenstore-read "$home/console" 2>/dev/null)" = stop ]; do
    usleep 20000
done
kill -STOP "$daemon"
begun=$(cut -d . -f 1 /proc/uptime)
xenstore-write "$home/console-daemon" stopped
if [ "$how" = panic ]; then
    while xl domid guest >/dev/null 2>&1; do
        usleep 200000
    done
    echo "dom0: the guest ended after $(($(cut -d . -f 1 /proc/uptime) - begun)) s"
    kill -CONT "$daemon"
else
    sleep "$how"
    echo "dom0: after $how s the guest says: $(xenstore-read "$home/console")"
    kill -CONT "$daemon"
    xenstore-write "$home/console-daemon" running
fi
