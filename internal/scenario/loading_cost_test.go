// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf/btf"
)

// maxLoadHooks is what 500 hooks of one policy may take until they are in force, in instructions. TestManager_price loads and
// attaches 500 programs: under the same counting that took 14,600,000,000 instructions, and without a virtual machine, on 6.18,
// 3.9 s of CPU time, 2.5 s on two CPUs. So a CPU does 3,700,000,000 of them a second.
const maxLoadHooks = 20_000_000_000

// TestInstructions_loading counts what it takes until 500 hooks of one policy are in force: on functions of the kernel, and
// among the security modules, of which each kernel has about half as many hooks.
func TestInstructions_loading(t *testing.T) {
	if os.Getenv(envIcount) == "" {
		t.Skipf("%s is not set; run make loading", envIcount)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	types, err := btf.LoadKernelSpec()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	a, err := startAgent(agentOptions{dir: dir, log: filepath.Join(dir, "agent.log")})
	if err != nil {
		t.Fatal(err)
	}
	defer removePins(dir)
	defer a.kill()
	c := &costs{t: t, a: a, dir: dir, serve: "unix://" + filepath.Join(dir, socketName)}
	c.add(seekPolicy("first", 1)) // it makes the tables

	const hooks = 500
	functions := slices.DeleteFunc(functions(t, 800), func(name string) bool { return !takesPointer(types, name) })
	modules := securityHooks(t, types)
	for _, row := range []struct {
		section, key string
		names        []string
	}{{"kprobes", "call", functions}, {"lsmhooks", "hook", modules}} {
		var b strings.Builder
		b.WriteString(strings.Replace(policyHead("cost"), "kprobes", row.section, 1))
		for i := range hooks {
			fmt.Fprintf(&b, "  - %s: %s\n    args: [{index: 0, type: uint64}]\n    selectors: [{matchArgs: [{index: 0, operator: Equal, values: [\"%d\"]}]}]\n",
				row.key, row.names[i%len(row.names)], 77777+i)
			if row.key == "call" {
				b.WriteString("    syscall: false\n")
			}
		}
		used := cpuTime(t, a)
		took := c.add(b.String())
		fmt.Printf("%-44s %12d\n", "  in the agent, and in the kernel for it", cpuTime(t, a)-used)
		c.check(fmt.Sprintf("%d %s at %d places", hooks, row.section, min(hooks, len(row.names))), took.Nanoseconds(), maxLoadHooks)
		begin := time.Now()
		c.remove("cost")
		fmt.Printf("%-44s %12d\n", "  until it is off again", time.Since(begin).Nanoseconds())
	}
}

// securityHooks lists hooks of the security modules.
func securityHooks(t *testing.T, types *btf.Spec) []string {
	t.Helper()
	const prefix = "bpf_lsm_"
	not := strings.Fields("find_cgroup_shim get_retval_range is_trusted verify_prog " + // what else is called so
		// kernel: what no program may be at (bpf_lsm_disabled_hooks)
		"audit_rule_match getprocattr getselfattr inode_copy_up_xattr inode_getsecurity inode_listsecurity inode_need_killpriv " +
		"ismaclabel key_getsecurity secid_to_secctx setprocattr vm_enough_memory xfrm_decode_session")
	var out []string
	for typ, err := range types.All() {
		if err != nil {
			t.Fatal(err)
		}
		f, ok := typ.(*btf.Func)
		if !ok || !strings.HasPrefix(f.Name, prefix) || !takesPointer(types, f.Name) {
			continue
		}
		if name := f.Name[len(prefix):]; !slices.Contains(not, name) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	if len(out) < 150 {
		t.Fatalf("the kernel has %d hooks of security modules", len(out))
	}
	return out
}

// takesPointer says whether a function's first argument is an address.
func takesPointer(types *btf.Spec, name string) bool {
	var f *btf.Func
	if types.TypeByName(name, &f) != nil {
		return false
	}
	proto, ok := f.Type.(*btf.FuncProto)
	if !ok || len(proto.Params) == 0 {
		return false
	}
	_, ok = btf.UnderlyingType(proto.Params[0].Type).(*btf.Pointer)
	return ok
}
