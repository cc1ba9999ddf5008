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

/* The body of @name on the function behind its call: long __x64_sys_*(const struct pt_regs *regs) */
#define ON_RETURN_OF(function, program, READ, name)       \
	SEC("fexit/" function)                            \
	int program(__u64 *context)                       \
	{                                                 \
		struct arguments passed;                  \
                                                          \
		READ(&passed);                            \
		return after_##name(context[1], &passed); \
	}
#define AHEAD_OF(function, program, READ, name) \
	SEC("fentry/" function)                 \
	int program(__u64 *context)             \
	{                                       \
		struct arguments passed;        \
                                                \
		READ(&passed);                  \
		return before_##name(&passed);  \
	}

#define ON_EXIT(name) ON_RETURN_OF(FUNCTION #name, end_##name, read_arguments, name)
#define ON_ENTRY(name) AHEAD_OF(FUNCTION #name, begin_##name, read_arguments, name)

#if defined(__TARGET_ARCH_x86)
#define ON_EXIT_32(name, served) \
	ON_RETURN_OF("__ia32_" #served, ia32_##name, read_arguments_32, name)
#define ON_ENTRY_32(name, served) \
	AHEAD_OF("__ia32_" #served, ia32_enter_##name, read_arguments_32, name)
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
