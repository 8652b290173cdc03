# set-dates.sh [--since SECONDS] FOLDER ...
#
# Dates the files of a layer 1980-01-01, the earliest date that a zip file can hold, so that the layer has the same bytes
# every time. With --since, only files changed since then (Unix time). Files that have the date already are left alone:
# touching a file of an earlier layer would copy it into this one.
set -eu
since=315532800
if [ "$1" = --since ]; then
    since=$2
    shift 2
fi
find "$@" -xdev -newermt "@$since" ! -path /etc/hosts ! -path /etc/resolv.conf \
    -exec touch --no-dereference --date=@315532800 {} +
