# A kernel: runs cells of bash, each in the same shell. See python.py for what is said on which fd.
mark=$MARK
unset MARK
exec 4<&0 0</dev/null 2>&1

say() {
    echo "{\"type\":$1}" >&3
    printf %s "$mark"
}

run() {
    # An interrupt ends the cell, not the shell; one that was early ends it now.
    trap 'return 130' INT
    [ -z "$early" ] || return 130
    eval "$1" 3>&- 4>&-
}

early=
trap 'early=1' INT
say '"ready"'
while LC_ALL=C read -r count length <&4; do
    LC_ALL=C read -rN "$length" code <&4
    run "$code"
    status=$?
    trap 'early=1' INT
    early=
    [ "$status" = 0 ] || say "\"error\",\"text\":\"exit status $status\""
    say '"done"'
done
