# system.sh WORKDIR [packages]
#
# Removes pip, setuptools and programs with setuid or setgid from the base image, gives user 1001 a name, since libraries
# look it up, and makes WORKDIR. Removing costs no bytes; a changed mode would copy each program into this layer. With
# `packages`, apt.sh runs next and removes those programs: what installs a package may need them.
set -eu
started=$(($(date +%s) - 60))
site=$(python -BISc 'import sysconfig; print(sysconfig.get_path("purelib"))')
rm -rf "${site:?}"/pip "${site:?}"/pip-*.dist-info "${site:?}"/setuptools "${site:?}"/setuptools-*.dist-info \
    "${site:?}"/pkg_resources "${site:?}"/_distutils_hack "${site:?}"/distutils-precedence.pth \
    "${site:?}"/wheel "${site:?}"/wheel-*.dist-info /usr/local/bin/pip* /usr/local/bin/wheel
echo "app:x:1001:1001:mlship:/tmp:/usr/sbin/nologin" >> /etc/passwd
echo "app:x:1001:" >> /etc/group
[ "${2:-}" = packages ] || find / -xdev -type f -perm /6000 -delete
mkdir "$1"
touch --date=@315532800 "$1"
sh "$(dirname "$0")/set-dates.sh" --since "$started" /etc /opt /usr /var
