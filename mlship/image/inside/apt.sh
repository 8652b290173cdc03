# apt.sh PACKAGE ...
#
# Installs Debian packages with pip's proxies and certificates, and leaves no caches and logs, which differ every time,
# and no programs with setuid or setgid: those of the base image are removed, and those of PACKAGE lose the bits.
set -eu
here=$(dirname "$0")
started=$(($(date +%s) - 60))
export PYTHONDONTWRITEBYTECODE=1
. "$here/settings.sh"
inherited=$(find / -xdev -type f -perm /6000)
apt-get update --quiet
apt-get install --yes --quiet --no-install-recommends "$@"
rm -rf /var/lib/apt/lists/* /var/cache/apt /var/log/apt /var/log/dpkg.log /var/cache/ldconfig/aux-cache
rm -f $inherited
find / -xdev -type f -perm /6000 -exec chmod a-s {} +
sh "$here/set-dates.sh" --since "$started" /etc /opt /usr /var
