// SPDX-License-Identifier: Apache-2.0

package plan

import "testing"

func TestFromUser(t *testing.T) {
	call := Attach{Backend: BackendFentry, Symbol: "__x64_sys_write", Regs: true}
	function := Attach{Backend: BackendFentry, Symbol: "vfs_write"}
	for _, c := range []struct {
		name string
		a    Attach
		s    Source
		want bool
	}{
		{"argument of a system call", call, Source{Kind: SourceReg, N: 1}, true},
		{"what lies there", call, Source{Kind: SourceReg, N: 1, Steps: []Step{{Size: 8, User: true}, {Off: 8, Addr: true}}}, true},
		{"saved register", call, Source{Kind: SourceRegister}, true},
		{"result of a system call", call, Source{Kind: SourceReturn}, true},
		{"file of a descriptor", call, Source{Kind: SourceFdFile}, false},
		{"member of the task", call, Source{Kind: SourceTask, Steps: []Step{{Off: 8, Size: 8}}}, false},
		{"equivalent", Attach{Backend: BackendSysEnter}, Source{Kind: SourceReg}, true},
		{"parameter of a function", function, Source{Kind: SourceArg}, false},
		{"register of a function", function, Source{Kind: SourceRegister}, false},
		{"user program", Attach{Backend: BackendUprobe, User: &Place{}}, Source{Kind: SourceArg}, true},
		{"field of a call's tracepoint", Attach{Backend: BackendTracepoint, Symbol: "syscalls/sys_enter_open"}, Source{Kind: SourceField}, true},
		{"field of another tracepoint", Attach{Backend: BackendTracepoint, Symbol: "sched/sched_switch"}, Source{Kind: SourceField}, false},
	} {
		if got := c.a.FromUser(&c.s); got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}
