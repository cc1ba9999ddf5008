/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The cgroup of a task, in the hierarchy in which containers are looked for. */
#ifndef NODEAGENT_CGROUP_H
#define NODEAGENT_CGROUP_H

#include "maps.h"
#include <bpf/bpf_core_read.h>

/* The kernel numbers its controllers as they were built in. */
static __always_inline __u32 controller_number(void)
{
	if (constants.cgroup_controller == CONTROLLER_MEMORY)
		return bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id);
	return bpf_core_enum_value(enum cgroup_subsys_id, pids_cgrp_id);
}

/*
 * The same in the hierarchy of a controller. A function of its own: most kernels never call
 * it, and inside of others it takes room on their stacks.
 */
static __noinline __u64 controller_cgroup(struct task_struct *task)
{
	void *states = (void *)BPF_CORE_READ(task, cgroups) +
		       bpf_core_field_offset(struct css_set, subsys);
	struct cgroup_subsys_state *state = NULL;

	bpf_probe_read_kernel(&state, sizeof(state), states + controller_number() * sizeof(state));
	return BPF_CORE_READ(state, cgroup, kn, id);
}

/* @task need not be one that the verifier knows. */
static __always_inline __u64 cgroup_of(struct task_struct *task)
{
	if (constants.cgroup_controller)
		return controller_cgroup(task);
	return BPF_CORE_READ(task, cgroups, dfl_cgrp, kn, id);
}

static __always_inline __u64 current_cgroup(void)
{
	if (constants.cgroup_controller)
		return controller_cgroup((struct task_struct *)bpf_get_current_task());
	return bpf_get_current_cgroup_id();
}

/* Whether a cgroup is in that hierarchy. Each of version 1 has a number; that of version 2 is 0. */
static __always_inline bool is_in_hierarchy(struct cgroup *cgroup)
{
	if (constants.cgroup_controller)
		return BPF_CORE_READ(cgroup, root, subsys_mask) & (1U << controller_number());
	return !BPF_CORE_READ(cgroup, root, hierarchy_id);
}

#endif
