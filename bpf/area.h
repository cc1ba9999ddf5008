/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The area of memory that an address lies in.
 *
 * bpf_find_vma() is no help: it fails where another thread is changing the memory map, and
 * kernels before v5.13 refuse a program that takes the address of a function. So the trees
 * are read as they lie in memory, without a lock: what was found while it changed may be
 * another area, or none, and look_at_area() takes only one that the address lies in.
 */
#ifndef NODEAGENT_AREA_H
#define NODEAGENT_AREA_H

#include "peek.h"

/* Twice the depth of a balanced tree with as many areas as a process may have by default. */
#define RB_STEPS 34

/* A node holds five areas at least, and five nodes. */
#define MAPLE_LEVELS 8
#define MAPLE_PIVOTS 15
#define MAPLE_PAGE_BITS 12

struct area {
	__u64 start;
	__u64 end;
	/* VM_* bits, of which the lowest three are PROT_READ, PROT_WRITE and PROT_EXEC. */
	__u64 flags;
	/* NULL for anonymous memory. */
	struct file *file;
};

/* Since commit 524e00b36e8c (v6.1) areas are in a maple tree. */
struct mm_struct___before_v6_1 {
	struct rb_root mm_rb;
};

struct vm_area_struct___before_v6_1 {
	struct rb_node vm_rb;
};

static __always_inline struct vm_area_struct *area_in_rb_tree(struct mm_struct *mm, __u64 address)
{
	struct mm_struct___before_v6_1 *old = (void *)mm;
	struct vm_area_struct___before_v6_1 *area = NULL;
	struct rb_node *node = BPF_CORE_READ(old, mm_rb.rb_node);

	for (int step = 0; step < RB_STEPS && node; step++) {
		struct vm_area_struct *found = (void *)node - bpf_core_field_offset(area->vm_rb);

		if (address < BPF_CORE_READ(found, vm_start))
			node = BPF_CORE_READ(node, rb_left);
		else if (address >= BPF_CORE_READ(found, vm_end))
			node = BPF_CORE_READ(node, rb_right);
		else
			return found;
	}
	return NULL;
}

/*
 * In which slot of a node the address is: the first whose pivot, its last address, is not
 * less. A pivot of 0 ends them early. A node with fewer pivots has kernel addresses behind
 * them, which are not less either. Without a branch, so that the verifier sees one way.
 */
static __always_inline __u64 maple_slot(const __u64 *pivots, __u64 address)
{
	__u64 less = 1;
	__u64 slot = 0;

	for (int pivot = 0; pivot < MAPLE_PIVOTS; pivot++) {
		less &= (((pivots[pivot] - 1) >> MAPLE_PAGE_BITS) - (address >> MAPLE_PAGE_BITS)) >>
			63;
		slot += less;
	}
	return slot;
}

/* A pointer to a node has the type of the node in bits that are always zero. */
static __always_inline struct vm_area_struct *area_in_maple_tree(struct mm_struct *mm,
								 __u64 address)
{
	__u64 entry = (__u64)BPF_CORE_READ(mm, mm_mt.ma_root);
	__u64 pivots[MAPLE_PIVOTS];

	for (int level = 0; level < MAPLE_LEVELS; level++) {
		struct maple_range_64 *node = (void *)(entry & ~0xffULL);
		struct maple_arange_64 *arange = (void *)node;
		enum maple_type type = (entry >> 3) & 0xf;
		__u64 slot;

		if (bpf_core_read(pivots, sizeof(pivots), &node->pivot))
			return NULL;
		slot = maple_slot(pivots, address);
		if (type == maple_arange_64)
			bpf_core_read(&entry, sizeof(entry), &arange->slot[slot]);
		else
			bpf_core_read(&entry, sizeof(entry), &node->slot[slot]);
		if (type == maple_leaf_64)
			return (struct vm_area_struct *)entry;
	}
	return NULL;
}

/* False where nothing is mapped. */
static __always_inline bool look_at_area(struct area *to, struct mm_struct *mm, __u64 address)
{
	struct vm_area_struct *area;
	struct peek start;

	if (bpf_core_field_exists(mm->mm_mt))
		area = area_in_maple_tree(mm, address);
	else
		area = area_in_rb_tree(mm, address);
	if (peek(&start, area) || PEEKED(&start, area, vm_mm) != mm)
		return false;
	to->start = PEEKED(&start, area, vm_start);
	to->end = PEEKED(&start, area, vm_end);
	to->flags = PEEKED(&start, area, vm_flags);
	to->file = PEEKED(&start, area, vm_file);
	return address >= to->start && address < to->end;
}

#endif
