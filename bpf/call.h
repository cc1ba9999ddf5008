/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * System calls, with one body for all ways to see one.
 *
 * One tracepoint of one call makes the kernel take its slow way for every call of every process.
 * So where trampolines are taken, they are on the function behind the call, and no other call
 * costs more. What never gets so far, since seccomp refuses it, only tracepoints see.
 *
 * Calls of 32 bits pass by the tracepoints. On x86 they have functions of their own, __ia32_*,
 * which nobody else calls; on arm64 most have that of 64 bits.
 */
#ifndef NODEAGENT_CALL_H
#define NODEAGENT_CALL_H

#include "compat.h"

#define AFTER_BODY(name) \
	static __always_inline int after_##name(long result, const struct arguments *passed)
#define BEFORE_BODY(name) static __always_inline int before_##name(const struct arguments *passed)

#if defined(__TARGET_ARCH_x86)
#define FUNCTION "__x64_sys_"
#elif defined(__TARGET_ARCH_arm64)
#define FUNCTION "__arm64_sys_"
#endif

/* long __x64_sys_*(const struct pt_regs *regs) */
#define ON_EXIT(name)                                     \
	SEC("fexit/" FUNCTION #name)                      \
	int end_##name(__u64 *context)                    \
	{                                                 \
		struct arguments passed;                  \
                                                          \
		read_arguments(&passed);                  \
		return after_##name(context[1], &passed); \
	}
#define ON_ENTRY(name)                         \
	SEC("fentry/" FUNCTION #name)          \
	int begin_##name(__u64 *context)       \
	{                                      \
		struct arguments passed;       \
                                               \
		read_arguments(&passed);       \
		return before_##name(&passed); \
	}

/* long __ia32_*(const struct pt_regs *regs) */
#if defined(__TARGET_ARCH_x86)
#define ON_EXIT_32(name, served)                          \
	SEC("fexit/__ia32_" #served)                      \
	int ia32_##name(__u64 *context)                   \
	{                                                 \
		struct arguments passed;                  \
                                                          \
		read_arguments_32(&passed);               \
		return after_##name(context[1], &passed); \
	}
#define ON_ENTRY_32(name, served)              \
	SEC("fentry/__ia32_" #served)          \
	int ia32_enter_##name(__u64 *context)  \
	{                                      \
		struct arguments passed;       \
                                               \
		read_arguments_32(&passed);    \
		return before_##name(&passed); \
	}
#else
#define ON_EXIT_32(name, served)
#define ON_ENTRY_32(name, served)
#endif

/* The body that follows runs when the call has its result; @served: the function behind its 32 bits. */
#define AFTER(name, served)                                       \
	AFTER_BODY(name);                                         \
                                                                  \
	SEC("tp/syscalls/sys_exit_" #name)                        \
	int exit_##name(struct trace_event_raw_sys_exit *context) \
	{                                                         \
		struct arguments passed;                          \
                                                                  \
		read_arguments(&passed);                          \
		return after_##name(context->ret, &passed);       \
	}                                                         \
                                                                  \
	ON_EXIT(name)                                             \
	ON_EXIT_32(name, served)                                  \
	AFTER_BODY(name)

/* The body that follows runs before the call does anything. */
#define BEFORE(name, served)                                             \
	BEFORE_BODY(name);                                               \
                                                                         \
	SEC("tp/syscalls/sys_enter_" #name)                              \
	int enter_##name(struct trace_event_raw_sys_enter *context)      \
	{                                                                \
		struct arguments passed = { .first = context->args[0],   \
					    .second = context->args[1],  \
					    .third = context->args[2] }; \
                                                                         \
		return before_##name(&passed);                           \
	}                                                                \
                                                                         \
	ON_ENTRY(name)                                                   \
	ON_ENTRY_32(name, served)                                        \
	BEFORE_BODY(name)

/* The same for a call that has 32 bits only. */
#define AFTER_32(name, served)                    \
	__attribute__((unused)) AFTER_BODY(name); \
	ON_EXIT_32(name, served)                  \
	AFTER_BODY(name)
#define BEFORE_32(name, served)                    \
	__attribute__((unused)) BEFORE_BODY(name); \
	ON_ENTRY_32(name, served)                  \
	BEFORE_BODY(name)

#endif
