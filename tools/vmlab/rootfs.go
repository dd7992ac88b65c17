// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const suite = "bookworm"

// What scenarios call beside Debian's essential packages.
var rootPackages = []string{
	"bpftool", "bsdextrautils", "busybox", "curl", "iproute2", "iptables", "jq", "kmod", "libcap2-bin", "login", "mount",
	"openssh-client", "openssh-server", "passwd", "procps", "sudo", "util-linux",
}

// configureRoot runs inside the new root.
const configureRoot = `set -e
echo vm > /etc/hostname
echo '127.0.0.1 localhost vm' > /etc/hosts
useradd -m -u 1000 -s /bin/bash alice
useradd -m -u 1001 -s /bin/bash bob
printf 'root:root\nalice:alice\nbob:bob\n' | chpasswd
echo 'alice ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/alice
chmod 440 /etc/sudoers.d/alice
mkdir -p -m 700 /root/.ssh
ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519
cp /root/.ssh/id_ed25519.pub /root/.ssh/authorized_keys
mkdir -p /lib/modules /out
rm -rf /var/cache/apt/archives/*.deb /var/lib/apt/lists/* /usr/share/doc/* /usr/share/man/* /usr/share/locale/*
`

// rootImage gives the ext4 image of a small Debian.
func (c *cache) rootImage(ctx context.Context, systemd bool) (string, error) {
	rootPackages, configureRoot := rootPackages, configureRoot
	if systemd {
		rootPackages = append(append([]string{}, rootPackages...), "dbus", "systemd", "systemd-sysv")
		configureRoot += "mkdir -p /etc/systemd/system/default.target.wants\n" +
			"ln -s ../vmlab.service /etc/systemd/system/default.target.wants/\n" +
			"systemctl mask ssh.service systemd-timesyncd.service apt-daily.timer apt-daily-upgrade.timer\n"
	}
	name := "root-" + suite + "-" + contentKey(append([]string{suite, configureRoot}, rootPackages...)...)
	dir, err := c.entry(name, func(dir string) error {
		if os.Geteuid() != 0 {
			return fmt.Errorf("debootstrap needs root; run as root once")
		}
		mirror, err := aptMirror(ctx)
		if err != nil {
			return err
		}
		root := filepath.Join(dir, "root")
		if _, err := command(ctx, "", "debootstrap", "--variant=minbase", "--include="+strings.Join(rootPackages, ","), suite, root, mirror); err != nil {
			return err
		}
		if _, err := command(ctx, "", "chroot", root, "/bin/sh", "-c", configureRoot); err != nil {
			return err
		}
		if err := makeImage(ctx, root, filepath.Join(dir, "root.ext4"), 1024); err != nil {
			return err
		}
		return os.RemoveAll(root)
	})
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "root.ext4"), nil
}

// aptMirror gives the Debian archive that this machine's apt uses already; TETRAGON_VM_MIRROR overrides it.
func aptMirror(ctx context.Context) (string, error) {
	if m := os.Getenv("TETRAGON_VM_MIRROR"); m != "" {
		return m, nil
	}
	out, err := command(ctx, "", "apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages")
	if err != nil {
		return "", err
	}
	for _, line := range strings.Split(out, "\n") {
		uri, release, _ := strings.Cut(line, " ")
		if release == suite && !strings.Contains(uri, "security") {
			return strings.TrimRight(uri, "/"), nil
		}
	}
	return "", fmt.Errorf("apt knows no archive of Debian %s; set TETRAGON_VM_MIRROR to one", suite)
}
