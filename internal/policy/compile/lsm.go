// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"fmt"
	"slices"

	"tetragon/internal/kernel"
	"tetragon/internal/policy/plan"
)

// securityFunctions are the kernel's functions that call a hook, where their name is not security_ and the hook's.
var securityFunctions = map[string]string{
	"bprm_check_security":    "security_bprm_check",
	"cred_alloc_blank":       "security_cred_alloc_blank",
	"file_alloc_security":    "security_file_alloc",
	"file_free_security":     "security_file_free",
	"inode_alloc_security":   "security_inode_alloc",
	"sb_alloc_security":      "security_sb_alloc",
	"sb_delete":              "security_sb_delete",
	"sk_alloc_security":      "security_sk_alloc",
	"sk_clone_security":      "security_sk_clone",
	"sk_free_security":       "security_sk_free",
	"socket_sock_rcv_skb":    "security_sock_rcv_skb",
	"shm_alloc_security":     "security_shm_alloc",
	"sem_alloc_security":     "security_sem_alloc",
	"msg_msg_alloc_security": "security_msg_msg_alloc",
}

// securityFunction is the function of the kernel that calls a hook of the security modules.
func securityFunction(hook string) string {
	if f := securityFunctions[hook]; f != "" {
		return f
	}
	return "security_" + hook
}

// yesOrNo are hooks that return no error. kernel: bool_lsm_hooks, 6.12; before, a program may return one nevertheless
var yesOrNo = []string{"audit_rule_known", "inode_xattr_skipcap", "xfrm_state_pol_flow_match"}

// byLSM puts a hook of lsmhooks among the security modules, if programs are asked there. If not, it stays a hook on the
// function that asks them, whose parameters are found by their names.
func (c *compiler) byLSM(h *hook) bool {
	name := h.lsm.Hook.Value
	of := c.f.Func("bpf_lsm_" + name)
	if of == nil && h.access.proto == nil {
		return false // told by whoever finds no function
	}
	if of != nil && h.access.proto != nil && !sameParams(of, h.access.proto) {
		c.renameParams(h, of)
	}
	switch why := c.f.Lacks(kernel.BpfLSM); {
	case why != "":
		h.tried(plan.BackendLSM, "%s", why)
	case of == nil:
		h.tried(plan.BackendLSM, "the kernel has no hook %s", name)
	case c.overrides(h) && of.Return.Type != "int":
		h.tried(plan.BackendLSM, "the hook %s denies nothing: it returns %s", name, of.Return.Type)
	case c.overrides(h) && slices.Contains(yesOrNo, name):
		h.tried(plan.BackendLSM, "the hook %s denies nothing: it answers yes or no", name)
	default:
		h.plan.Attach = plan.Attach{Backend: plan.BackendLSM, Symbol: name, Params: len(of.Params)}
		h.access = access{count: len(of.Params), proto: of, param: func(i int) reached { return reached{source: arg(int64(i))} }, ret: h.access.ret}
		c.hashAt(h, of)
		return true
	}
	if w := h.digests(); w.any() {
		d := c.d.Error(w.at, "cannot-hash", "%s gives no hashes on this kernel", name)
		for _, t := range h.plan.Tried {
			d.WithNote("%s: %s", t.Backend.Asked(), t.Why)
		}
	}
	if of == nil {
		h.plan.Caveats = append(h.plan.Caveats, fmt.Sprintf("this kernel does not say what the parameters of the hook are: those of %s are taken", h.call))
	}
	h.plan.Caveats = append(h.plan.Caveats, fmt.Sprintf("it is seen where %s asks the security modules, before they answer", h.call))
	return false
}

func sameParams(a, b *kernel.Func) bool {
	return slices.EqualFunc(a.Params, b.Params, func(x, y kernel.Param) bool { return x.Type == y.Type })
}

// renameParams finds the parameters of a hook among those of the function that calls it.
func (c *compiler) renameParams(h *hook, of *kernel.Func) {
	function := h.access.proto
	h.access = access{count: len(of.Params), proto: of, ret: h.access.ret, param: func(i int) reached {
		for j, p := range function.Params {
			if p.Name == of.Params[i].Name && p.Type == of.Params[i].Type {
				return reached{source: arg(int64(j))}
			}
		}
		return reached{why: fmt.Sprintf("parameter %d of the hook (%s) is not one of %s", i, of.Params[i].Name, h.call)}
	}}
}
