#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Installs what `make test` needs beside Go on Debian 12, as root. Does nothing when all of it is there.
set -eu

# package:program that it brings
wanted='
busybox:busybox
clang-19:clang-19
clang-format-19:clang-format-19
curl:curl
debootstrap:debootstrap
e2fsprogs:mke2fs
jq:jq
kmod:depmod
llvm-19:llvm-strip-19
libcap2-bin:capsh
bpftool:bpftool
bsdextrautils:wall
openssh-client:ssh
openssh-server:sshd
passwd:passwd
prometheus:promtool
protobuf-compiler:protoc
qemu-system-x86:qemu-system-x86_64
sudo:sudo
util-linux:unshare
xz-utils:xz
'
PATH=$PATH:/usr/sbin:/sbin
missing=
for w in $wanted; do
	command -v "${w#*:}" >/dev/null || missing="$missing ${w%%:*}"
done
# clang compiles the BPF objects against libbpf's headers.
[ -e /usr/include/bpf/bpf_helpers.h ] || missing="$missing libbpf-dev"
# protoc wants the types that every .proto may use.
[ -e /usr/include/google/protobuf/any.proto ] || missing="$missing libprotobuf-dev"
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
	echo "setup: not installed:$missing; run tools/setup.sh as root" >&2
	exit 1
fi
echo "setup: installing$missing"
export DEBIAN_FRONTEND=noninteractive
# Nothing that is installed for tests is to run as a service: tests start what they need, where they need it.
if [ ! -e /usr/sbin/policy-rc.d ]; then
	printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
	chmod 755 /usr/sbin/policy-rc.d
	trap 'rm -f /usr/sbin/policy-rc.d' EXIT
fi
install() { apt-get install -q -y --no-install-recommends $missing; }
# The package lists may be missing or old: fetch them only if installing does not work without.
install >/dev/null 2>&1 || { apt-get update -q >/dev/null && install >/dev/null; }
