// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Programs that are never part of a run: the doctor loads and attaches them one
 * by one to learn what this kernel takes.
 */
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

/* int security_file_open(struct file *file), called at every open. */
SEC("fentry/security_file_open")
int BPF_PROG(probe_trampoline, struct file *file)
{
	return 0;
}

SEC("lsm/file_open")
int BPF_PROG(probe_lsm, struct file *file)
{
	return 0;
}
