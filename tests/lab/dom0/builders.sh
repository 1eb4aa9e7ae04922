# Has Xen's builder build many kernels, one after the other, and tells what became of
# each: it was refused (and why), it powered off, or neither.
at=0
while [ -f "/job/$at.cfg" ]; do
    if xl create -q -e "/job/$at.cfg" >/job/log 2>&1; then
        verdict=crashes
        tries=0
        while [ $tries -lt 60 ]; do
            # Flags: running, blocked, paused, shut down, crashed, dying.
            case $(xl list "s$at" 2>/dev/null | awk -v name="s$at" '$1 == name { print $5 }') in
                ????c*) break ;;
                ???s*) verdict=runs; break ;;
            esac
            tries=$((tries + 1))
            usleep 50000
        done
        xl destroy "s$at"
        echo "@@LAB $verdict"
    else
        sed 's/^/@@LAB why /' /job/log
        echo "@@LAB refused"
    fi
    at=$((at + 1))
done
echo "@@LAB over"
