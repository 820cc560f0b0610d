# The first process of a host (hosts.py): runs in new namespaces, makes the host's own directories, prints its process
# id as the outside counts, and stays until its standard input ends. NAME, PLACE and KEEP come in the environment.
set -eu
# KEEP has a path a line, and a path may have spaces and stars.
IFS="
"
set -f
# /proc is still the outside's: this is our process id as the outside counts.
IFS=' ' read -r pid _ < /proc/self/stat
# The first process adopts orphans; ignoring SIGCHLD (it survives exec) reaps them.
trap '' CHLD
i=0
for path in $KEEP; do
    mkdir -p "$PLACE/keep/$i"
    mount --rbind "$path" "$PLACE/keep/$i"
    i=$((i + 1))
done
mount -t tmpfs -o mode=755 tmpfs /run
[ "$(readlink -f /var/run)" = /run ] || mount --bind /run /var/run
mount --bind "$PLACE/var-lib" /var/lib
i=0
for path in $KEEP; do
    mkdir -p "$path"
    mount --rbind "$PLACE/keep/$i" "$path"
    i=$((i + 1))
done
for file in resolv.conf hosts; do
    if [ -f "/etc/$file" ]; then mount --bind "$PLACE/$file" "$(readlink -f "/etc/$file")"; fi
done
mount -t proc proc /proc
mount -t sysfs sysfs /sys 2>/dev/null || true
# mount(8) keeps notes there.
rm -rf /run/mount
echo "$NAME" > /proc/sys/kernel/hostname
# Duplicate address detection would keep every new IPv6 address unusable for a second.
for scope in all default; do echo 0 > "/proc/sys/net/ipv6/conf/$scope/accept_dad"; done
ip link set lo up
echo "$pid"
exec cat > /dev/null
