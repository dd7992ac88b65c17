#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# package.sh VERSION DIR: makes the archive with install.sh and the Debian package of what is in bin/.
set -eu
version=$1
out=$2
arch=$(go env GOARCH)
cd "$(dirname "$0")/.."
# Debian wants a number in front and no dash in what is ours.
debversion=$(printf %s "$version" | sed 's/^v//; s/-/./g')
case $debversion in [0-9]*.[0-9]*) ;; *) debversion=0.0.0+git.$debversion ;; esac
rm -rf "$out"
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
umask 022

unit() { # BINDIR FILE
	mkdir -p "$(dirname "$2")"
	sed "s|@BINDIR@|$1|" deploy/package/tetragon.service >"$2"
}

# The archive.
name=tetragon-$version-$arch
top=$work/$name
mkdir -p "$top/usr/local/bin" "$top/usr/local/lib/tetragon/tetragon.conf.d"
install -m 755 deploy/package/install.sh deploy/package/uninstall.sh "$top/"
install -m 755 bin/tetragon bin/tetra "$top/usr/local/bin/"
install -m 644 deploy/package/defaults/* "$top/usr/local/lib/tetragon/tetragon.conf.d/"
unit /usr/local/bin "$top/usr/lib/systemd/system/tetragon.service"
unit /usr/local/bin "$top/usr/local/lib/tetragon/systemd/tetragon.service"
tar -C "$work" --owner=0 --group=0 --sort=name -czf "$out/$name.tar.gz" "$name"
(cd "$out" && sha256sum "$name.tar.gz" >"$name.tar.gz.sha256sum")

# The Debian package. Its defaults lie in /usr/lib, where upgrades reach them.
deb=$work/deb
mkdir -p "$deb/DEBIAN" "$deb/usr/bin" "$deb/usr/lib/tetragon/tetragon.conf.d" "$deb/etc/tetragon" "$deb/usr/share/doc/tetragon"
install -m 755 bin/tetragon bin/tetra "$deb/usr/bin/"
install -m 644 deploy/package/defaults/* "$deb/usr/lib/tetragon/tetragon.conf.d/"
install -m 644 deploy/package/debian/tetragon.yaml "$deb/etc/tetragon/"
install -m 644 LICENSE "$deb/usr/share/doc/tetragon/copyright"
gzip -9n <CHANGELOG.md >"$deb/usr/share/doc/tetragon/changelog.gz"
chmod 644 "$deb/usr/share/doc/tetragon/changelog.gz"
unit /usr/bin "$deb/lib/systemd/system/tetragon.service"
install -m 755 deploy/package/debian/postinst deploy/package/debian/prerm deploy/package/debian/postrm "$deb/DEBIAN/"
echo /etc/tetragon/tetragon.yaml >"$deb/DEBIAN/conffiles"
cat >"$deb/DEBIAN/control" <<E
Package: tetragon
Version: $debversion
Architecture: $arch
Maintainer: the tetragon authors <root@localhost>
Section: admin
Priority: optional
Depends: init-system-helpers (>= 1.52)
Installed-Size: $(du -sk "$deb" | cut -f1)
Description: observes processes and enforces policies by eBPF
 An agent that tells what happens on a machine, from inside the kernel, and a
 command line to talk to it.
E
dpkg-deb --root-owner-group -Zxz -z3 --build "$deb" "$out/tetragon_${debversion}_$arch.deb" >/dev/null
ls "$out"
