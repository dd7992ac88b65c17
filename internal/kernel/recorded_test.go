// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"flag"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"
)

var recordTo = flag.String("record", "", "record the running kernel, as far as tests need it, to this file")

// TestRecordKernel makes the files below internal/policy/compile/testdata/kernels; on a machine, as root:
//
//	go test ./internal/kernel -run TestRecordKernel -record FILE
func TestRecordKernel(t *testing.T) {
	if *recordTo == "" {
		t.Skip("no -record FILE: nothing to do")
	}
	f, err := Read(Options{})
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(*recordTo)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Record(out, testSubset()); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := OpenRecorded(*recordTo)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v, %d functions, %d formats", r.saved.Lacks, len(r.saved.Functions), len(r.saved.Formats))
}

// testSubset is what the tests of policies ask.
func testSubset() *Subset {
	s := &Subset{
		Functions: strings.Fields(`
			bpf_check security_bpf security_bpf_prog_load security_bpf_prog_alloc security_bpf_map_alloc security_bpf_map_create
			security_perf_event_alloc security_perf_event_open security_file_permission security_mmap_file security_file_mprotect
			security_file_open security_file_ioctl security_file_truncate security_path_truncate security_inode_getattr do_truncate
			security_file_fcntl security_file_lock security_inode_unlink security_inode_rename security_path_unlink security_path_mkdir
			fd_install vfs_read vfs_write vfs_open vfs_unlink vfs_iter_write do_sys_openat2 do_filp_open filp_close ksys_read ksys_write
			security_capset security_capable cap_capable commit_creds override_creds create_user_ns prepare_creds security_prepare_creds
			__sys_setuid __sys_setgid __sys_setreuid __sys_setregid __sys_setresuid __sys_setresgid __sys_setfsuid __sys_setfsgid
			sk_alloc sk_free __sk_free tcp_set_state tcp_close tcp_connect tcp_create_openreq_child tcp_sendmsg tcp_v4_connect
			inet_csk_accept inet_csk_get_port inet_release __sys_connect
			security_socket_connect security_socket_bind security_socket_sendmsg security_socket_recvmsg security_socket_listen
			security_socket_accept security_socket_create security_socket_post_create security_sk_free security_sk_alloc
			security_kernel_module_request security_kernel_read_file security_kernel_post_read_file security_kernel_load_data
			do_init_module free_module load_module find_module_sections __request_module
			security_bprm_check security_bprm_creds_for_exec security_bprm_committing_creds security_bprm_committed_creds bprm_execve
			begin_new_exec wake_up_new_task acct_process do_exit do_group_exit kernel_clone
			ip_output dev_queue_xmit __dev_queue_xmit kfree_skb_reason sk_skb_reason_drop netif_receive_skb dev_hard_start_xmit
			security_create_user_ns security_path_mknod security_path_rename security_path_rmdir security_path_link
			bpf_lsm_file_open bpf_lsm_file_permission bpf_lsm_mmap_file bpf_lsm_bprm_check_security bpf_lsm_bprm_creds_for_exec
			bpf_lsm_socket_connect bpf_lsm_task_kill bpf_lsm_path_unlink bpf_lsm_inode_unlink bpf_lsm_ptrace_access_check
			security_path_symlink security_path_chmod security_path_chown security_task_kill security_task_prctl security_inode_create security_sb_mount security_ptrace_access_check
			do_mount path_mount mount_bdev register_kprobe __register_kprobe copy_process io_submit_sqes
			iterate_dir generic_file_read_iter filemap_read new_sync_write __cgroup_bpf_run_filter_skb
			security_file_ioctl_compat security_inode_link security_inode_mkdir security_inode_mknod security_inode_readlink
			security_inode_remove_acl security_inode_removexattr security_inode_rmdir security_inode_set_acl
			security_inode_setattr security_inode_setxattr security_inode_symlink security_path_chroot security_ptrace_traceme
			security_sb_pivotroot security_sb_statfs security_sb_umount security_settime64 security_socket_getpeername
			security_socket_getsockname security_socket_getsockopt security_socket_setsockopt security_socket_shutdown
			security_syslog security_task_alloc security_task_fix_setgid security_task_fix_setgroups security_task_fix_setuid
			security_task_setnice security_task_setpgid security_task_setrlimit security_task_setscheduler
		`),
		Tracepoints: strings.Fields(`
			sys_enter sys_exit inet_sock_set_state tcp_destroy_sock tcp_retransmit_skb tcp_send_reset tcp_receive_reset module_load
			module_free module_request cap_capable sched_prepare_exec sched_process_exec sched_process_exit sched_process_fork
			sched_wakeup_new sched_switch task_newtask task_rename kfree_skb consume_skb net_dev_queue net_dev_xmit
			netif_receive_skb signal_generate signal_deliver cgroup_attach_task
		`),
		Members: strings.Fields(`
			sock.__sk_common.skc_family sock.__sk_common.skc_state sock.__sk_common.skc_daddr sock.__sk_common.skc_dport
			sock.__sk_common.skc_num sock.sk_protocol sock.sk_type sock.sk_mark sock.sk_socket.file.f_inode.i_ino bpf_sock_addr_kern.sk bpf_sock_addr_kern.uaddr
			socket.sk.sk_protocol socket.type
			file.private_data file.f_inode.i_mode file.f_inode.i_ino file.f_inode.i_sb.s_magic file.f_flags file.f_mode file.f_path
			file.f_path.dentry.d_name.name file.f_path.dentry.d_parent file.f_cred.uid.val file.f_op file.f_path.mnt.mnt_flags
			path.dentry.d_name.name path.mnt dentry.d_inode.i_mode dentry.d_name.name dentry.d_parent
			linux_binprm.cred.cap_permitted linux_binprm.cred.cap_effective linux_binprm.cred.cap_ambient linux_binprm.cred.euid.val
			linux_binprm.cred.uid.val linux_binprm.file linux_binprm.file.f_path.dentry.d_name.name linux_binprm.filename
			linux_binprm.interp linux_binprm.argc linux_binprm.envc linux_binprm.mm.owner.pid linux_binprm.file.f_inode.i_uid.val
			cred.uid.val cred.euid.val cred.cap_effective cred.cap_permitted cred.user_ns.level cred.securebits
			task_struct.pid task_struct.tgid task_struct.comm task_struct.flags task_struct.cred.uid.val task_struct.cred.euid.val
			task_struct.cred.cap_effective task_struct.mm.owner.pid task_struct.mm.arg_start task_struct.real_parent.pid
			task_struct.real_parent.comm task_struct.signal.live.counter task_struct.signal.group_exit_code task_struct.exit_code
			task_struct.fs.pwd task_struct.files.fdt.fd task_struct.nsproxy.uts_ns.name.nodename task_struct.group_leader.pid
			user_namespace.level user_namespace.owner.val user_namespace.ns.inum
			bpf_map.map_type bpf_map.name bpf_prog.aux.name bpf_prog.type perf_event.attr.type perf_event.attr.config
			module.name module.taints kiocb.ki_filp kiocb.ki_pos iov_iter.count
			sk_buff.len sk_buff.dev.name net_device.name net_device.ifindex inode.i_mode inode.i_ino inode.i_uid.val
			pt_regs.ip pt_regs.di vm_area_struct.vm_file super_block.s_magic msghdr.msg_iter
		`),
		Formats: strings.Fields(`
			raw_syscalls/sys_enter raw_syscalls/sys_exit syscalls/sys_enter_openat syscalls/sys_exit_openat syscalls/sys_enter_lseek
			syscalls/sys_exit_lseek syscalls/sys_enter_write syscalls/sys_enter_read syscalls/sys_exit_read syscalls/sys_enter_newuname
			syscalls/sys_enter_execve syscalls/sys_enter_connect syscalls/sys_enter_newstat
			sched/sched_process_exec sched/sched_process_exit sched/sched_process_fork sched/sched_switch task/task_newtask
			task/task_rename signal/signal_generate module/module_load module/module_free module/module_request
			sock/inet_sock_set_state tcp/tcp_retransmit_skb tcp/tcp_destroy_sock net/netif_receive_skb net/net_dev_queue skb/kfree_skb
			block/block_rq_issue irq/softirq_entry kmem/kmalloc writeback/writeback_dirty_inode
		`),
	}
	for n := range syscallsX64 {
		s.Functions = append(s.Functions, "__x64_sys_"+n, "__do_sys_"+n)
	}
	for n := range syscallsI386 {
		s.Functions = append(s.Functions, "__ia32_sys_"+n, "__ia32_compat_sys_"+n)
	}
	for _, n := range []string{"newstat", "newfstat", "newlstat", "newuname", "umount", "sendfile64", "setuid16", "setgid16"} {
		s.Functions = append(s.Functions, "__x64_sys_"+n, "__ia32_sys_"+n)
	}
	return s
}

// smallTypes has a function, a tracepoint and a struct with what a reduction keeps and what it drops.
func smallTypes(t *testing.T) *btf.Spec {
	t.Helper()
	num := &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}
	big := &btf.Int{Name: "unsigned long", Size: 8}
	kuid := &btf.Typedef{Name: "kuid_t", Type: &btf.Struct{Name: "kuid", Size: 4, Members: []btf.Member{{Name: "val", Type: num}}}}
	cred := &btf.Struct{Name: "cred", Size: 32, Members: []btf.Member{
		{Name: "usage", Type: big}, {Name: "uid", Type: kuid, Offset: 64}, {Name: "next", Type: big, Offset: 128},
	}}
	anon := &btf.Union{Size: 8, Members: []btf.Member{{Name: "left", Type: big}, {Name: "right", Type: big}}}
	task := &btf.Struct{Name: "task", Size: 64, Members: []btf.Member{
		{Name: "flags", Type: big}, {Name: "cred", Type: &btf.Pointer{Target: &btf.Const{Type: cred}}, Offset: 64},
		{Name: "", Type: anon, Offset: 128}, {Name: "list", Type: &btf.Array{Index: num, Type: num, Nelems: 4}, Offset: 192},
		{Name: "self", Type: &btf.Pointer{Target: big}, Offset: 320},
	}}
	task.Members[4].Type = &btf.Pointer{Target: task}
	fn := &btf.Func{Name: "look", Linkage: btf.GlobalFunc, Type: &btf.FuncProto{
		Return: num, Params: []btf.FuncParam{{Name: "t", Type: &btf.Pointer{Target: task}}, {Name: "n", Type: num}},
	}}
	tp := &btf.Typedef{Name: "btf_trace_point", Type: &btf.Pointer{Target: &btf.FuncProto{
		Return: &btf.Void{}, Params: []btf.FuncParam{{Name: "__data", Type: &btf.Pointer{Target: &btf.Void{}}}, {Name: "t", Type: &btf.Pointer{Target: task}}},
	}}}
	b, err := btf.NewBuilder([]btf.Type{task, fn, tp}, nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := b.Marshal(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := btf.LoadSpecFromReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// record saves types without asking the running kernel, and reads them back.
func record(t *testing.T, s saved) *Recorded {
	t.Helper()
	var buf bytes.Buffer
	if err := s.write(&buf); err != nil {
		t.Fatal(err)
	}
	r, err := ReadRecorded(&buf)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRecorded(t *testing.T) {
	live := &Facts{Types: smallTypes(t)}
	only := &Subset{Functions: []string{"look", "nowhere"}, Tracepoints: []string{"point"}, Members: []string{"task.cred.uid.val", "task.right", "task.list[2]", "none.at.all"}}
	for _, tt := range []struct {
		name string
		only *Subset
	}{{"whole", nil}, {"subset", only}} {
		t.Run(tt.name, func(t *testing.T) {
			types, err := live.savedTypes(tt.only)
			if err != nil {
				t.Fatal(err)
			}
			r := record(t, saved{
				Format: savedFormat, Release: "6.1.0-test", Arch: "amd64", Lacks: map[Feature]string{Fentry: "", Kprobe: "not built"},
				Functions: []string{"a_one", "b_two"}, Namespaces: map[string]uint32{"net": 7},
				Formats: map[string]string{"a/b": "ID: 3\nformat:\n\tfield:int x;\toffset:8;\tsize:4;\tsigned:1;\n"}, Types: types,
			})
			if got, want := r.Func("look").String(), live.Func("look").String(); got != want {
				t.Errorf("Func: %q, want %q", got, want)
			}
			if got, want := r.RawTracepoint("point").String(), "void point(struct task *t)"; got != want {
				t.Errorf("RawTracepoint: %q, want %q", got, want)
			}
			if r.Func("nowhere") != nil || r.RawTracepoint("nowhere") != nil {
				t.Error("nowhere is found")
			}
			for _, path := range []string{"cred.uid.val", "right", "list[2]"} {
				got, err := r.Follow("task", path)
				if err != nil {
					t.Fatal(err)
				}
				want, err := live.Follow("task", path)
				if err != nil {
					t.Fatal(err)
				}
				if len(got.Steps) != len(want.Steps) || got.Steps[len(got.Steps)-1] != want.Steps[len(want.Steps)-1] || got.Type != want.Type || got.Bits != want.Bits {
					t.Errorf("%s: %+v, want %+v", path, got, want)
				}
			}
			if _, err := r.Follow("task", "flags"); (err != nil) != (tt.only != nil) {
				t.Errorf("a member that was not asked for: %v", err)
			}
			if r.KernelRelease() != "6.1.0-test" || r.Lacks(Fentry) != "" || r.Lacks(Kprobe) != "not built" || r.Lacks("unheard") == "" {
				t.Error("features are not what they were")
			}
			if !r.Traceable("a_one") || r.Traceable("look") {
				t.Error("what can be traced is not what it was")
			}
			if got, err := r.Functions(regexp.MustCompile("^b")); err != nil || len(got) != 1 || got[0] != "b_two" {
				t.Errorf("Functions: %v, %v", got, err)
			}
			if f, err := r.Format("a", "b"); err != nil || len(f.Fields) != 1 || f.Fields[0].Off != 8 {
				t.Errorf("Format: %+v, %v", f, err)
			}
			if _, err := r.Format("a", "c"); err == nil {
				t.Error("a format that is not there is found")
			}
			if r.HostNamespace("net") != 7 || r.HostNamespace("uts") != 0 {
				t.Error("namespaces are not what they were")
			}
			if nr, ok := r.Syscall("i386", "setuid32"); !ok || nr != 213 {
				t.Errorf("Syscall: %d, %t", nr, ok)
			}
		})
	}
}

// TestRecorded_unknown: a kernel that did not tell what can be traced.
func TestRecorded_unknown(t *testing.T) {
	types, err := (&Facts{Types: smallTypes(t)}).savedTypes(nil)
	if err != nil {
		t.Fatal(err)
	}
	r := record(t, saved{Format: savedFormat, Types: types})
	if !r.Traceable("anything") {
		t.Error("nothing can be traced")
	}
	if _, err := r.Functions(regexp.MustCompile("")); err == nil {
		t.Error("there is a list of functions")
	}
}

func TestReadRecorded_broken(t *testing.T) {
	zip := func(text string) []byte {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, _ = z.Write([]byte(text))
		_ = z.Close()
		return b.Bytes()
	}
	other, err := json.Marshal(saved{Format: 99})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, want string
		file       []byte
	}{
		{"empty", "EOF", nil},
		{"plain text", "header", []byte("not compressed at all")},
		{"no JSON", "invalid character", zip("{nonsense")},
		{"another layout", "layout 99, this program reads 1", zip(string(other))},
		{"no types", "types", zip(`{"format":1}`)},
		{"cut", "EOF", zip(`{"format":1}`)[:12]},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ReadRecorded(bytes.NewReader(tt.file))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
		})
	}
}

// FuzzReadRecorded holds that no file makes reading, or asking what was read, panic.
func FuzzReadRecorded(f *testing.F) {
	var b bytes.Buffer
	s := saved{Format: savedFormat, Types: []byte{0x9f, 0xeb, 1, 0}}
	if err := s.write(&b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, file []byte) {
		r, err := ReadRecorded(bytes.NewReader(file))
		if err != nil {
			return
		}
		_ = r.Func("look")
		_, _ = r.Follow("task", "a.b")
		_, _ = r.Format("a", "b")
	})
}
