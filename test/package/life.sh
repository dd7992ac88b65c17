#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# The life of the packages on a machine that runs systemd: life.sh OLD.deb NEW.deb ARCHIVE.tar.gz. Everything that it shows
# is a line "--- PASS: Package/what". In a chroot, where systemd does not run, it shows what does not need it, and names the
# rest as skipped.
set -u
old=$1 new=$2 archive=$3
export SYSTEMD_PAGER= DEBIAN_FRONTEND=noninteractive
fails=0
t() { # WHAT COMMAND...
	what=$1
	shift
	if out=$("$@" 2>&1); then
		echo "--- PASS: Package/$what (0.00s)"
	else
		echo "--- FAIL: Package/$what (0.00s)"
		echo "    $*: $out"
		systemctl status tetragon --no-pager -l 2>&1 | sed 's/^/    /' | tail -20
		fails=$((fails + 1))
	fi
}
s() { # the same, for what needs systemd to run
	if [ -d /run/systemd/system ]; then
		t "$@"
	else
		echo "--- SKIP: Package/$1 (0.00s)"
		echo "    systemd does not run here"
	fi
}
gone() { ! ls "$@" >/dev/null 2>&1; }
active() { [ "$(systemctl is-active tetragon)" = active ]; }
inactive() { ! active; }
seen() { /bin/true "$1" && tries=0 && until grep -q "$1" /var/log/tetragon/tetragon.log; do
	tries=$((tries + 1)) && [ $tries -lt 300 ] && sleep 0.1 || return 1
done; }
same() { [ "$(cat "$1")" = "$2" ]; }

t deb_installs dpkg -i "$old"
t deb_defaults sh -c 'tetragon --print-config | grep -q "^export-filename: .*# /usr/lib/tetragon/tetragon.conf.d/export-filename$"'
s deb_runs active
t deb_enabled systemctl is-enabled tetragon
s status_without_an_address tetra status
s socket_mode sh -c '[ "$(stat -c %a /var/run/tetragon/tetragon.sock)" -le 660 ]'
s events_in_the_log seen marker-one
s no_credentials_yet sh -c '! grep marker-one /var/log/tetragon/tetragon.log | grep -q "\"process_credentials\""'

# The user's document, to the letter.
mkdir -p /etc/tetragon/tetragon.conf.d
echo true >/etc/tetragon/tetragon.conf.d/enable-process-cred
s restart_with_the_drop_in systemctl restart tetragon
s runs_again active
s events_with_credentials seen marker-two
s credentials sh -c 'grep marker-two /var/log/tetragon/tetragon.log | grep -q "\"process_credentials\""'
t source_is_told sh -c 'tetragon --print-config | grep -q "^enable-process-cred: true  # /etc/tetragon/tetragon.conf.d/enable-process-cred$"'

# A policy in the directory.
cat >/etc/tetragon/tetragon.tp.d/watch.yaml <<E
apiVersion: cilium.io/v1alpha1
kind: TracingPolicy
metadata:
  name: from-disk
spec:
  tracepoints:
  - subsystem: sched
    event: sched_process_exec
    raw: true
E
s restart_with_a_policy systemctl restart tetragon
s policy_is_listed sh -c 'tetra tracingpolicy list | grep -q from-disk'

# Reload, and a configuration that is wrong.
echo debug >/etc/tetragon/tetragon.conf.d/log-level
s reload systemctl reload tetragon
s still_runs active
echo nonsense >/etc/tetragon/tetragon.conf.d/log-level
t wrong_configuration_is_told sh -c 'tetragon --print-config 2>&1 | grep -q "tetragon.conf.d/log-level: \"nonsense\" is not"'
s wrong_configuration_does_not_start sh -c '! systemctl restart tetragon'
s the_journal_says_where sh -c 'journalctl -u tetragon --no-pager | grep -q "tetragon.conf.d/log-level: \"nonsense\" is not"'
s it_is_not_started_over_and_over sh -c '[ "$(systemctl show -p NRestarts --value tetragon)" = 0 ]'
rm /etc/tetragon/tetragon.conf.d/log-level
s starts_again systemctl start tetragon

# The unit is as tight as it says.
s no_new_privileges sh -c 'grep -q "^NoNewPrivs:.1$" /proc/$(systemctl show -p MainPID --value tetragon)/status'
s exposure_is_moderate sh -c 'systemd-analyze security tetragon --no-pager | tail -1 | grep -Eq "(OK|MEDIUM)"'
s killed_comes_back sh -c 'p=$(systemctl show -p MainPID --value tetragon); kill -9 $p; for i in $(seq 600); do q=$(systemctl show -p MainPID --value tetragon); [ "$q" != 0 ] && [ "$q" != "$p" ] && [ "$(systemctl is-active tetragon)" = active ] && exit 0; sleep 0.2; done; exit 1'

# With a guard only process 1 ends the agent, and takes it up again.
pid() { systemctl show -p MainPID --value tetragon; }
refused() { ! kill -9 "$(pid)" && active; }
echo enforce >/etc/tetragon/tetragon.conf.d/guard
s guard_starts systemctl restart tetragon
s guard_denies_others refused
s guard_lets_the_manager_restart systemctl restart tetragon
s guard_is_there_again refused
rm /etc/tetragon/tetragon.conf.d/guard
s guard_lets_the_manager_stop systemctl restart tetragon
s without_a_guard_again sh -c '! tetra status | grep -q "the guard is"'

# An upgrade keeps what the administrator wrote.
echo "metrics-server: 127.0.0.1:2112" >>/etc/tetragon/tetragon.yaml
t deb_upgrades dpkg --force-confold -i "$new"
s upgraded_runs active
s upgraded_answers sh -c 'tetra version --server | grep -q "^Server version: $(tetra version | sed "s/.*: //")$"'
t upgraded_version sh -c '[ "$(dpkg-query -W -f "\${Version}" tetragon)" != 0.0.0 ]'
t settings_stay grep -q metrics-server /etc/tetragon/tetragon.yaml
t drop_in_stays same /etc/tetragon/tetragon.conf.d/enable-process-cred true
t deb_removes dpkg -r tetragon
s stopped inactive
t binaries_gone gone /usr/bin/tetragon /lib/systemd/system/tetragon.service
t settings_outlive_removal grep -q metrics-server /etc/tetragon/tetragon.yaml
t run_directory_clean gone /var/run/tetragon/tetragon.sock /var/run/tetragon/tetragon.pid
t deb_purges dpkg -P tetragon
t conffile_gone gone /etc/tetragon/tetragon.yaml
t policies_stay ls /etc/tetragon/tetragon.tp.d/watch.yaml

# The archive.
rm -rf /etc/tetragon /var/log/tetragon
mkdir /tmp/archive
tar -C /tmp/archive -xzf "$archive"
cd /
t archive_installs /tmp/archive/*/install.sh
s archive_runs active
s archive_events seen marker-three
t archive_defaults same /etc/tetragon/tetragon.conf.d/export-filename /var/log/tetragon/tetragon.log
echo warn >/etc/tetragon/tetragon.conf.d/log-level
t archive_installs_again /tmp/archive/*/install.sh
t archive_settings_stay same /etc/tetragon/tetragon.conf.d/log-level warn
t archive_uninstalls /tmp/archive/*/uninstall.sh
s archive_stopped inactive
t archive_gone gone /usr/local/bin/tetragon /usr/local/lib/tetragon /usr/lib/systemd/system/tetragon.service
t archive_leaves_settings ls /etc/tetragon/tetragon.conf.d/log-level
[ $fails = 0 ]
