# apt.sh PACKAGE ...
#
# Installs Debian packages with pip's proxies and certificates, and leaves no caches and logs, which differ every time.
set -eu
here=$(dirname "$0")
started=$(($(date +%s) - 60))
export PYTHONDONTWRITEBYTECODE=1
. "$here/settings.sh"
apt-get update --quiet
apt-get install --yes --quiet --no-install-recommends "$@"
rm -rf /var/lib/apt/lists/* /var/cache/apt /var/log/apt /var/log/dpkg.log /var/cache/ldconfig/aux-cache
sh "$here/set-dates.sh" --since "$started" /etc /opt /usr /var
