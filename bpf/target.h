/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Files that a call names in the caller's memory, or by a descriptor. */
#ifndef NODEAGENT_TARGET_H
#define NODEAGENT_TARGET_H

#include "path.h"

#define AT_FDCWD -100

/*
 * What was passed, and from which directory it starts. At the exit of the call the
 * memory may have changed, so whoever uses this says `unverified`.
 */
static __always_inline void append_passed_target(void *record, struct target *to, int directory,
						 const char *name)
{
	struct scratch *scratch = scratch_of(record);
	__u32 offset = scratch->used;
	struct file *file;

	append_string(record, &to->argument, name, PATH_BYTES, true);
	barrier_var(offset);
	offset &= RECORD_MAX - 1;
	if (to->argument.length && scratch->record[offset] == '/')
		return;
	if (directory == AT_FDCWD) {
		append_cwd(record, &to->base, (struct task_struct *)bpf_get_current_task());
		return;
	}
	file = file_of(directory);
	if (file)
		append_file_path(record, &to->base, file);
}

/* The real path of the file behind a descriptor. */
static __always_inline void append_target_of_fd(void *record, struct target *to, int fd)
{
	struct file *file = file_of(fd);

	if (file)
		append_file_path(record, &to->path, file);
}

#endif
