/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Strings in the memory of the process that calls. */
#ifndef NODEAGENT_STRINGS_H
#define NODEAGENT_STRINGS_H

#include "call.h"
#include "emit.h"

/* Arguments of a failed execve that are looked at. */
#define POINTERS_MAX 64
/* Environment strings that are looked at, and the longest piece read at once. */
#define VARIABLES_MAX 256
#define VARIABLE_BYTES 1024

/* The strings that a NULL-terminated array of pointers names, up to @limit bytes. */
static __always_inline void append_pointers(void *record, struct strings *strings,
					    const struct arguments *passed, __u64 pointers,
					    __u32 limit)
{
	struct scratch *scratch = scratch_of(record);
	struct text *text = &strings->joined;
	__u32 offset;
	int index;

	text->offset = scratch->used;
	for (index = 0; index < POINTERS_MAX; index++) {
		__u64 string;
		char *to = append_at(scratch, &offset);
		long length;

		if (!to || scratch->used - text->offset >= limit) {
			text->truncated = 1;
			break;
		}
		length = read_pointer(&string, passed,
				      (void *)(pointers + index * passed->pointer_bytes));
		if (!length && !string)
			break;
		if (!length)
			length = bpf_probe_read_user_str(to, VARIABLE_BYTES, (void *)string);
		if (length < 0) {
			text->error = length;
			break;
		}
		if (length == VARIABLE_BYTES && is_cut((void *)string, VARIABLE_BYTES, true))
			text->truncated = 1;
		scratch->used = offset + length;
	}
	if (index == POINTERS_MAX)
		text->truncated = 1;
	if (scratch->used > RECORD_MAX) {
		scratch->used = RECORD_MAX;
		text->truncated = 1;
	}
	text_end(scratch, text);
}

/* Only these two change what code a process loads. */
static __always_inline bool is_loader_variable(const char *string)
{
	const char preload[] = "LD_PRELOAD=";
	const char library[] = "LD_LIBRARY_PATH=";

	return !__builtin_memcmp(string, preload, sizeof(preload) - 1) ||
	       !__builtin_memcmp(string, library, sizeof(library) - 1);
}

/* One piece of the environment; false at its end. */
static __always_inline bool append_variable(struct scratch *scratch, struct text *text)
{
	__u32 offset;
	char *to = append_at(scratch, &offset);
	bool is_whole;
	long length;

	if (!to || scratch->cursor >= scratch->end)
		return false;
	length = bpf_probe_read_user_str(to, VARIABLE_BYTES, (void *)scratch->cursor);
	if (length <= 0) {
		text->error = length;
		return false;
	}
	is_whole = length < VARIABLE_BYTES ||
		   !is_cut((void *)scratch->cursor, VARIABLE_BYTES, true);
	/* A piece that continues a long string is no variable of its own. */
	if (!scratch->inside && is_loader_variable(to)) {
		scratch->used = offset + length;
		if (!is_whole)
			text->truncated = 1;
	}
	scratch->inside = !is_whole;
	scratch->cursor += scratch->inside ? length - 1 : length;
	return true;
}

/* Some pieces, see TURNS_AT_ONCE; 1 at the end of the environment. */
__weak int append_variables(__u32 index)
{
	struct scratch *scratch = bpf_map_lookup_elem(&scratches, &index);

	if (!scratch)
		return 1;
	for (int turn = 0; turn < TURNS_AT_ONCE; turn++)
		if (!append_variable(scratch, &scratch->variables))
			return 1;
	return 0;
}

static __always_inline void append_environment(void *record, struct strings *strings, __u64 start,
					       __u64 end)
{
	struct scratch *scratch = scratch_of(record);
	struct text *text = &scratch->variables;

	__builtin_memset(text, 0, sizeof(*text));
	text->offset = scratch->used;
	scratch->cursor = start;
	scratch->end = end;
	scratch->inside = 0;
	for (int turn = 0; turn < VARIABLES_MAX; turn += TURNS_AT_ONCE)
		if (append_variables(scratch->index))
			break;
	if (!text->error && scratch->used < RECORD_MAX && scratch->cursor < end)
		text->truncated = 1;
	if (scratch->used > RECORD_MAX) {
		scratch->used = RECORD_MAX;
		text->truncated = 1;
	}
	text_end(scratch, text);
	strings->joined = *text;
}

#endif
