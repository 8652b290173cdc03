# What a container without Python says of itself, section by section; it calls no library of the driver.
exec 2>/dev/null
echo @@os
cat /etc/os-release
echo @@arch
uname -m
echo @@loaders
ls -d /lib/ld-musl-*.so.1 /lib64/ld-linux*.so.* /lib/ld-linux*.so.* /lib/*/libc.so.6 /lib64/libc.so.6
echo @@id
id -u; id -g; id -G
echo @@env
tr '\000' '\n' </proc/1/environ || env
echo @@nodes
ls -lnd /dev/null /dev/nvidia* /dev/nvidia-caps/* /dev/dxg
echo @@open
for node in /dev/nvidiactl /dev/nvidia0 /dev/nvidia-uvm; do
  [ -e $node ] && (: <>$node) 2>&1 && echo "ok $node"
done
echo @@mounts
cat /proc/self/mountinfo
echo @@libraries
for file in /usr/lib/libcuda.so* /usr/lib/libnvidia-ml.so* /usr/lib/*/libcuda.so* \
  /usr/lib/*/libnvidia-ml.so* /usr/lib64/libcuda.so* /usr/lib64/libnvidia-ml.so* \
  /usr/local/cuda*/compat/libcuda.so* \
  /usr/local/cuda*/lib64/stubs/libcuda.so* /usr/local/cuda*/targets/*/lib/stubs/libcuda.so*; do
  [ -e "$file" ] && { readlink -f "$file" || echo "$file"; }
done
echo @@trace
# The loader's trace; the program itself does not run.
LD_PRELOAD='libcuda.so.1 libnvidia-ml.so.1' LD_TRACE_LOADED_OBJECTS=1 /bin/true 2>&1 | while read -r line; do
  echo "$line"
  for word in $line; do
    case $word in /*libcuda.so* | /*libnvidia-ml.so*) echo "real $word $(readlink -f "$word")" ;; esac
  done
done
echo @@smi
nvidia-smi -L 2>&1
echo @@end
