/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* One accessor for each thing that differs between kernels or architectures. */
#ifndef NODEAGENT_COMPAT_H
#define NODEAGENT_COMPAT_H

#include <vmlinux.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

/*
 * Since v5.11 (commit 3ca1032ab7ab) the verifier knows the current task and follows its
 * pointers, so a field is one load. Before, and behind pointers that it does not know,
 * each step is a call. Code that is worth it is compiled for
 * both, with LOADED or BPF_CORE_READ, and the one that does not fit is dropped at load.
 */
#define LOADED(from, ...) ___arrow(from, ##__VA_ARGS__)

/* THREAD_SIZE unless KASAN is built in; only looked at before v5.15. */
#define KERNEL_STACK_BYTES (4096 << 2)

#define HAS_TYPED_TASK bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_get_current_task_btf)
/* At first only tracing programs had it; kernels with this other helper (v6.1) give it to all. */
#define HAS_TYPED_TASK_FOR_ALL \
	bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_user_ringbuf_drain)

/*
 * The verifier follows the body of a loop each time, but a global function only once. So a
 * long loop is a loop over a global function with a short loop. bpf_loop() is no help: even
 * where it would never be called, kernels before commit 69c087ba6225 (v5.13) refuse a
 * program that takes the address of a function.
 */
#define TURNS_AT_ONCE 8

/* Arguments of the current system call, still there when it returns. */
#if defined(__TARGET_ARCH_x86)
#define REGISTER_ARG1 di
#define REGISTER_ARG2 si
#define REGISTER_ARG3 dx
#define REGISTER_ARG4 r10
#define REGISTER_ARG5 r8
#define REGISTER_ARG6 r9
#define REGISTER_NUMBER orig_ax
#define REGISTER_ARG1_32 bx
#define NR_CLONE 56
#define NR_FORK 57
#define NR_VFORK 58
#define NR_EXIT 60
#elif defined(__TARGET_ARCH_arm64)
#define REGISTER_ARG1 orig_x0
#define REGISTER_ARG2 regs[1]
#define REGISTER_ARG3 regs[2]
#define REGISTER_ARG4 regs[3]
#define REGISTER_ARG5 regs[4]
#define REGISTER_ARG6 regs[5]
#define REGISTER_NUMBER syscallno
#define REGISTER_ARG1_32 orig_x0
#define NR_CLONE 220
#define NR_FORK (~0ULL)
#define NR_VFORK (~0ULL)
#define NR_EXIT 93
#else
#error "no system call convention for this architecture"
#endif
#define NR_CLONE3 435
/* Of calls of 32 bits, the same on both. */
#define NR_EXIT_32 1
#define NR_FORK_32 2
#define NR_CLONE_32 120
#define NR_VFORK_32 190

#if defined(__TARGET_ARCH_x86)
/* TS_COMPAT: from the entry of a call of 32 bits to its end, whatever the program is. */
#define IN_CALL_32 0x2
#define STATE_OF_CALL status
#else
/* TIF_32BIT: all calls of a program of 32 bits. */
#define IN_CALL_32 (1 << 22)
#define STATE_OF_CALL flags
#endif

/* Whether the system call that @task is in, or was in last, is one of 32 bits. */
static __always_inline bool is_in_call_32(struct task_struct *task)
{
	return BPF_CORE_READ(task, thread_info.STATE_OF_CALL) & IN_CALL_32;
}

/* What the current task passed to its system call. */
struct arguments {
	__u64 first;
	__u64 second;
	__u64 third;
	__u64 fourth;
	__u64 fifth;
	__u64 sixth;
	/* Bytes of a pointer in the caller's memory. */
	__u64 pointer_bytes;
};

/* The current task; the verifier knows it where HAS_TYPED_TASK. */
static __always_inline struct task_struct *current_task(void)
{
	return HAS_TYPED_TASK ? bpf_get_current_task_btf() :
				(struct task_struct *)bpf_get_current_task();
}

/* Since commit dd6e10fbd9fb (v5.15). */
#define HAS_REGISTERS bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_task_pt_regs)

/* The registers that the current task entered the kernel with. */
static __always_inline struct pt_regs *typed_registers(struct task_struct *task)
{
	return (struct pt_regs *)bpf_task_pt_regs(task);
}

/* The same where HAS_REGISTERS is not: the last thing on the kernel stack. */
static __always_inline struct pt_regs *registers_on_stack(struct task_struct *task)
{
	return (struct pt_regs *)((__u64)BPF_CORE_READ(task, stack) + KERNEL_STACK_BYTES) - 1;
}

/* One argument alone: frequent calls that are no event end at a look at it. */
#define ARGUMENT(REGISTER)                                           \
	(HAS_REGISTERS ? typed_registers(current_task())->REGISTER : \
			 BPF_CORE_READ(registers_on_stack(current_task()), REGISTER))

#define READ_ARGUMENTS(READ, to, registers, one, two, three, four, five, six) \
	do {                                                                  \
		(to)->first = READ(registers, one);                           \
		(to)->second = READ(registers, two);                          \
		(to)->third = READ(registers, three);                         \
		(to)->fourth = READ(registers, four);                         \
		(to)->fifth = READ(registers, five);                          \
		(to)->sixth = READ(registers, six);                           \
	} while (0)

#define READ_ALL(READ, to, registers)                                                    \
	READ_ARGUMENTS(READ, to, registers, REGISTER_ARG1, REGISTER_ARG2, REGISTER_ARG3, \
		       REGISTER_ARG4, REGISTER_ARG5, REGISTER_ARG6)

/* Those of the current @task. */
static __always_inline void read_arguments_of(struct arguments *to, struct task_struct *task)
{
	struct pt_regs *registers;

	to->pointer_bytes = sizeof(__u64);
	if (HAS_REGISTERS) {
		registers = typed_registers(task);
		READ_ALL(LOADED, to, registers);
	} else {
		registers = registers_on_stack(task);
		READ_ALL(BPF_CORE_READ, to, registers);
	}
}

static __always_inline void read_arguments(struct arguments *to)
{
	read_arguments_of(to, current_task());
}

#if defined(__TARGET_ARCH_x86)
/* Those of a call of 32 bits. The upper halves of the registers are no part of them. */
#define LOADED_32(...) ((__u32)LOADED(__VA_ARGS__))
#define READ_32(...) ((__u32)BPF_CORE_READ(__VA_ARGS__))

static __always_inline void read_arguments_32(struct arguments *to)
{
	struct task_struct *task = current_task();
	struct pt_regs *registers;

	to->pointer_bytes = sizeof(__u32);
	if (HAS_REGISTERS) {
		registers = typed_registers(task);
		READ_ARGUMENTS(LOADED_32, to, registers, bx, cx, dx, si, di, bp);
	} else {
		registers = registers_on_stack(task);
		READ_ARGUMENTS(READ_32, to, registers, bx, cx, dx, si, di, bp);
	}
}
#endif

/* What is as long as a pointer, in the caller's memory; returns 0, or why it cannot be read. */
static __always_inline long read_pointer(__u64 *to, const struct arguments *passed,
					 const void *from)
{
	*to = 0;
	if (passed->pointer_bytes == sizeof(__u32))
		return bpf_probe_read_user(to, sizeof(__u32), from);
	return bpf_probe_read_user(to, sizeof(__u64), from);
}

/* kernel_cap_t became a single u64 with commit f122a08b197d (v6.3); same bytes. */
#define CAPABILITIES(credentials, field)                                               \
	({                                                                             \
		const struct cred *_cred = credentials;                                \
		__u64 _capabilities = 0;                                               \
                                                                                       \
		bpf_probe_read_kernel(&_capabilities, sizeof(_capabilities),           \
				      __builtin_preserve_access_index(&_cred->field)); \
		_capabilities;                                                         \
	})

#endif
