/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* One accessor for each thing that differs between kernels or architectures. */
#ifndef NODEAGENT_COMPAT_H
#define NODEAGENT_COMPAT_H

#include <vmlinux.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

/*
 * The registers that the current task entered the kernel with. bpf_task_pt_regs()
 * came with commit dd6e10fbd9fb (v5.15); before it the registers are the last
 * thing on the kernel stack.
 */
static __always_inline struct pt_regs *user_registers(void)
{
	if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_task_pt_regs))
		return (struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf());
#if defined(__TARGET_ARCH_x86)
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();

	/* THREAD_SIZE is 16 KiB unless KASAN is built in. */
	return (struct pt_regs *)((__u64)BPF_CORE_READ(task, stack) + (4096 << 2)) - 1;
#else
	return NULL;
#endif
}

/* Arguments of the current system call, still there when it returns. */
#if defined(__TARGET_ARCH_x86)
#define SYSCALL_ARG1(regs) BPF_CORE_READ(regs, di)
#define SYSCALL_ARG2(regs) BPF_CORE_READ(regs, si)
#define SYSCALL_ARG3(regs) BPF_CORE_READ(regs, dx)
#define SYSCALL_ARG4(regs) BPF_CORE_READ(regs, r10)
#define SYSCALL_NUMBER(regs) ((int)BPF_CORE_READ(regs, orig_ax))
#define NR_CLONE 56
#define NR_FORK 57
#define NR_VFORK 58
#elif defined(__TARGET_ARCH_arm64)
#define SYSCALL_ARG1(regs) BPF_CORE_READ(regs, orig_x0)
#define SYSCALL_ARG2(regs) BPF_CORE_READ(regs, regs[1])
#define SYSCALL_ARG3(regs) BPF_CORE_READ(regs, regs[2])
#define SYSCALL_ARG4(regs) BPF_CORE_READ(regs, regs[3])
#define SYSCALL_NUMBER(regs) ((int)BPF_CORE_READ(regs, syscallno))
#define NR_CLONE 220
#define NR_FORK -1
#define NR_VFORK -1
#else
#error "no system call convention for this architecture"
#endif
#define NR_CLONE3 435

/* kernel_cap_t became a single u64 with commit f122a08b197d (v6.3); same bytes. */
static __always_inline __u64 effective_capabilities(const struct cred *cred)
{
	__u64 capabilities = 0;

	bpf_probe_read_kernel(&capabilities, sizeof(capabilities),
			      __builtin_preserve_access_index(&cred->cap_effective));
	return capabilities;
}

#endif
