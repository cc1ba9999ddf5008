// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Whether the kernel still runs its own code: pointers to functions that lead out of it.
 *
 * User space says where the pointers are, runs check_kernel(), and looks at what that has found.
 * What is new it runs tell_hooks() for, so that it comes on a ring like any other event.
 */
#include <vmlinux.h>
#include <bpf/bpf_tracing.h>
#include "emit.h"

#define TABLES 32
#define TABLE_NAME_BYTES 40
/* Of one table; the one of system calls has some more than 512. */
#define POINTERS 1024
#define TURNS (POINTERS / TURNS_AT_ONCE)
#define HOOKS 64
/* MODULE_NAME_LEN. */
#define MODULE_NAME_BYTES 56

/* Addresses of the kernel; above are numbers below zero. */
#define KERNEL_START 0xffff000000000000ULL
#define KERNEL_END 0xffffffffff000000ULL

/* Pointers that follow each other, which all lead into the kernel's own image. */
struct kernel_table {
	__u64 start;
	__u64 image_start;
	__u64 image_end;
	__u32 pointers;
	__u32 reserved;
	char name[TABLE_NAME_BYTES];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TABLES);
	__type(key, __u32);
	__type(value, struct kernel_table);
} kernel_tables SEC(".maps");

/* A pointer that leads elsewhere. */
struct kernel_hook {
	__u64 address;
	__u32 table;
	__u32 index;
	/* Whose address it is, by user space; empty when nobody owns to it. */
	char module[MODULE_NAME_BYTES];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, HOOKS);
	__type(key, __u32);
	__type(value, struct kernel_hook);
} kernel_hooks SEC(".maps");

/* What the last check has seen. */
struct kernel_check {
	__u32 pointers;
	__u32 hooks;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct kernel_check);
} kernel_checks SEC(".maps");

static __always_inline void note_hook(struct kernel_check *check, __u32 table, __u32 index,
				      __u64 address)
{
	__u32 number = check->hooks;
	struct kernel_hook *hook = bpf_map_lookup_elem(&kernel_hooks, &number);

	if (!hook)
		return;
	hook->address = address;
	hook->table = table;
	hook->index = index;
	check->hooks = number + 1;
}

static __always_inline bool leads_out(const struct kernel_table *table, __u64 address)
{
	if (address < KERNEL_START || address >= KERNEL_END)
		return false;
	return address < table->image_start || address >= table->image_end;
}

__noinline int check_turn(__u32 number, __u32 first)
{
	struct kernel_table *table = bpf_map_lookup_elem(&kernel_tables, &number);
	__u64 pointers[TURNS_AT_ONCE];
	__u32 zero = 0;
	struct kernel_check *check = bpf_map_lookup_elem(&kernel_checks, &zero);

	if (!table || !check || first >= table->pointers)
		return 0;
	if (bpf_probe_read_kernel(pointers, sizeof(pointers),
				  (void *)(table->start + first * sizeof(__u64))))
		return 0;
	for (__u32 turn = 0; turn < TURNS_AT_ONCE; turn++) {
		if (first + turn >= table->pointers)
			break;
		check->pointers++;
		if (leads_out(table, pointers[turn]))
			note_hook(check, number, first + turn, pointers[turn]);
	}
	return 0;
}

__noinline int check_table(__u32 number)
{
	for (__u32 turn = 0; turn < TURNS; turn++)
		check_turn(number, turn * TURNS_AT_ONCE);
	return 0;
}

/* It looks at no map: the last call, which has none, is where it does its work. */
SEC("iter/bpf_map")
int check_kernel(struct bpf_iter__bpf_map *context)
{
	struct kernel_check none = {};
	__u32 zero = 0;

	if (context->map)
		return 0;
	bpf_map_update_elem(&kernel_checks, &zero, &none, BPF_ANY);
	for (__u32 number = 0; number < TABLES; number++)
		check_table(number);
	return 0;
}

/* The kernel itself did it, as far as anybody can tell now. */
__noinline int tell_hook(__u32 number)
{
	struct task who = { .login_uid = -1, .session_id = -1, .comm = "kernel" };
	struct kernel_hook *hook = bpf_map_lookup_elem(&kernel_hooks, &number);
	struct kernel_hook_event *event;
	struct kernel_table *table;
	__u32 at;

	if (!hook)
		return 0;
	at = hook->table;
	table = bpf_map_lookup_elem(&kernel_tables, &at);
	if (!table)
		return 0;
	event = emit_reserve_of(EVENT_KERNEL_HOOK, sizeof(*event), &who, 0);
	if (!event)
		return 0;
	event->address = hook->address;
	event->index = hook->index;
	append_string(event, &event->table, table->name, TABLE_NAME_BYTES, false);
	append_string(event, &event->module, hook->module, MODULE_NAME_BYTES, false);
	emit_submit(event, EVENT_KERNEL_HOOK);
	return 0;
}

/* The first ones of kernel_hooks, as many as kernel_checks says. */
SEC("iter/bpf_map")
int tell_hooks(struct bpf_iter__bpf_map *context)
{
	__u32 zero = 0;
	struct kernel_check *check = bpf_map_lookup_elem(&kernel_checks, &zero);

	if (context->map || !check)
		return 0;
	for (__u32 number = 0; number < HOOKS; number++) {
		if (number >= check->hooks)
			break;
		tell_hook(number);
	}
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
