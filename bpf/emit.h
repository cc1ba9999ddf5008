/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The life of a record: emit_reserve() counts it as seen and gives a zeroed
 * struct, the append_*() helpers put variable parts behind it, emit_submit()
 * sends it. Whatever is not sent is counted with its reason.
 */
#ifndef NODEAGENT_EMIT_H
#define NODEAGENT_EMIT_H

#include "maps.h"
#include "compat.h"
#include "filter.h"
#include "budget.h"
#include "moment.h"
#include "task.h"

#define EPERM 1
#define ENOENT 2
#define EAGAIN 11
#define EACCES 13
#define EFAULT 14
#define ETXTBSY 26
#define EROFS 30
#define ELOOP 40
#define EINPROGRESS 115

#define COUNT(counter) __sync_fetch_and_add(&(counter), 1)

static __always_inline struct counters *kind_counters(__u32 kind)
{
	return bpf_map_lookup_elem(&counters, &kind);
}

static __always_inline struct scratch *scratch_of(void *record)
{
	return container_of(record, struct scratch, record);
}

/*
 * Takes one that nobody uses on this CPU. Some programs can be preempted by others, so it is
 * claimed first and looked at then: of two that claim it at once at most one gets it.
 */
static __always_inline bool claim(struct scratch *scratch)
{
	__sync_fetch_and_add(&scratch->busy, 1);
	if (*(volatile __u32 *)&scratch->busy == 1)
		return true;
	__sync_fetch_and_add(&scratch->busy, -1);
	return false;
}

static __always_inline void give_back(struct scratch *scratch)
{
	__sync_fetch_and_add(&scratch->busy, -1);
}

static __always_inline struct scratch *take_scratch(void)
{
	__u32 index = 0;
	struct scratch *scratch = bpf_map_lookup_elem(&scratches, &index);

	if (scratch && !claim(scratch)) {
		index = 1;
		scratch = bpf_map_lookup_elem(&scratches, &index);
		if (scratch && !claim(scratch))
			return NULL;
	}
	if (scratch)
		scratch->index = index;
	return scratch;
}

static __always_inline struct settings *current_settings(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&settings, &zero);
}

#define IS_PROCESS(kind) ((kind) == EVENT_EXEC || (kind) == EVENT_FORK || (kind) == EVENT_EXIT)

/* Whose programs are worth a long look of the verifier. */
#define IS_FREQUENT(kind) ((kind) == EVENT_OPEN || IS_PROCESS(kind))

/*
 * The agent's own operations are not shown, but they prove that the hook is alive. Of another
 * one, from which it takes over, only the life is shown.
 */
static __always_inline bool is_own(struct settings *now, struct counters *count, __u32 kind,
				   __u32 pid)
{
	if (now->own_pid != pid)
		return now->other_pid && now->other_pid == pid && !IS_PROCESS(kind);
	COUNT(count->own);
	return true;
}

/* Counts one operation of the current process as seen; NULL when the policy does not want it. */
static __always_inline struct counters *wanted_by(__u32 kind, __u32 pid)
{
	struct counters *count = kind_counters(kind);
	struct settings *now = current_settings();

	if (!count || !now || now->stopped)
		return NULL;
	COUNT(count->seen);
	if (is_shared(now, kind))
		agree(bpf_get_current_pid_tgid(), kind, now->first >> kind & 1);
	if (is_own(now, count, kind, pid) || !(now->kinds & (1ULL << kind)) ||
	    /* The process table needs all processes; user space leaves them out. */
	    (now->filters && !IS_PROCESS(kind) &&
	     is_excluded(now, current_cgroup(), bpf_get_current_uid_gid()))) {
		COUNT(count->filtered);
		return NULL;
	}
	return count;
}

static __always_inline struct counters *wanted(__u32 kind)
{
	return wanted_by(kind, bpf_get_current_pid_tgid() >> 32);
}

/* The same for what @task has done, where it need not be the current one. */
static __always_inline bool wanted_of(__u32 kind, const struct task *task, __u32 tid)
{
	struct counters *count = kind_counters(kind);
	struct settings *now = current_settings();

	if (!count || !now || now->stopped)
		return false;
	COUNT(count->seen);
	if (is_shared(now, kind))
		agree(tid, kind, now->first >> kind & 1);
	if (is_own(now, count, kind, task->pid) || !(now->kinds & (1ULL << kind)) ||
	    (now->filters && is_excluded(now, task->cgroup, task->uid))) {
		COUNT(count->filtered);
		return false;
	}
	return true;
}

/* Rare and precious kinds have a ring of their own, which bulk cannot fill. */
static __always_inline bool is_high_value(__u32 kind)
{
	return (HIGH_VALUE >> kind) & 1;
}

/* A record of which nothing but the fixed part and a short path is known yet. */
#define ROOM_BYTES 512

/*
 * Whether it is worth building a record. A full ring is noticed before the work and
 * not after it, so that a flood that nobody can read costs the node little.
 */
static __always_inline bool has_room(bool to_high, __u32 size)
{
	__u64 needed = size + ROOM_BYTES;

	if (to_high)
		return bpf_ringbuf_query(&high, BPF_RB_AVAIL_DATA) + needed <=
		       constants.high_ring_bytes;
	return bpf_ringbuf_query(&bulk, BPF_RB_AVAIL_DATA) + needed <= constants.bulk_ring_bytes;
}

static __always_inline void count_lost(__u32 kind, enum lost_reason reason)
{
	struct counters *count = kind_counters(kind);

	if (!count)
		return;
	COUNT(count->lost[reason]);
	COUNT(count->sequence);
}

/* Whether the agent sheds anything at all. */
static __always_inline bool sheds(void)
{
	struct settings *now = current_settings();

	return now && (now->shed | now->window_events);
}

static __always_inline void count_throttled(struct scratch *scratch, __u32 kind)
{
	struct counters *count = kind_counters(kind);

	if (count) {
		COUNT(count->throttled);
		COUNT(count->sequence);
	}
	give_back(scratch);
}

static __always_inline struct scratch *take_scratch_for(__u32 kind)
{
	struct scratch *scratch = take_scratch();

	if (!scratch)
		count_lost(kind, LOST_SCRATCH_BUSY);
	return scratch;
}

/* Where to build a record of @kind, or NULL when it is not wanted or there is no place. */
static __always_inline struct scratch *emit_take(__u32 kind)
{
	return wanted(kind) ? take_scratch_for(kind) : NULL;
}

/* When it was: what two agents agreed on, or now. */
static __always_inline __u64 moment_of(__u32 tid, __u32 kind)
{
	struct settings *now = current_settings();

	return now && is_shared(now, kind) ? agreed(tid, kind) : bpf_ktime_get_boot_ns();
}

/*
 * A zeroed record of @kind whose fixed part has @size bytes, or NULL when the ring is
 * full. It does not say yet who did it, and when.
 */
static __always_inline struct event *emit_blank(struct scratch *scratch, __u32 kind, __u32 size,
						bool to_high)
{
	struct event *event;

	if (!has_room(to_high, size)) {
		count_lost(kind, LOST_RING_FULL);
		give_back(scratch);
		return NULL;
	}
	event = (struct event *)scratch->record;
	__builtin_memset(event, 0, size);
	scratch->used = size;
	event->kind = kind;
	event->cpu = bpf_get_smp_processor_id();
	return event;
}

/* The common part describes the current task. @to_high: one record of a kind may be precious. */
static __always_inline void *emit_start_to(struct scratch *scratch, __u32 kind, __u32 size,
					   bool to_high)
{
	struct event *event;

	if (!to_high && sheds() && is_over_budget(kind, current_cgroup())) {
		count_throttled(scratch, kind);
		return NULL;
	}
	event = emit_blank(scratch, kind, size, to_high);
	if (!event)
		return NULL;
	event->tid = bpf_get_current_pid_tgid();
	event->time = moment_of(event->tid, kind);
	if (IS_FREQUENT(kind))
		fill_current_task(&event->task);
	else
		fill_current_task_cheaply(&event->task);
	return event;
}

static __always_inline void *emit_start(struct scratch *scratch, __u32 kind, __u32 size)
{
	return emit_start_to(scratch, kind, size, is_high_value(kind));
}

/* Both at once; NULL when the operation is not wanted or its record cannot be built. */
static __always_inline void *emit_reserve(__u32 kind, __u32 size)
{
	struct scratch *scratch = emit_take(kind);

	return scratch ? emit_start(scratch, kind, size) : NULL;
}

static __always_inline void *emit_reserve_to(__u32 kind, __u32 size, bool to_high)
{
	struct scratch *scratch = emit_take(kind);

	return scratch ? emit_start_to(scratch, kind, size, to_high) : NULL;
}

/* A record of what @task has done, where it need not be the current one. */
static __always_inline void *emit_reserve_of(__u32 kind, __u32 size, const struct task *task,
					     __u32 tid)
{
	struct scratch *scratch = wanted_of(kind, task, tid) ? take_scratch_for(kind) : NULL;
	struct event *event;

	if (!scratch)
		return NULL;
	if (!is_high_value(kind) && sheds() && is_over_budget(kind, task->cgroup)) {
		count_throttled(scratch, kind);
		return NULL;
	}
	event = emit_blank(scratch, kind, size, is_high_value(kind));
	if (!event)
		return NULL;
	event->tid = tid;
	event->time = moment_of(tid, kind);
	event->task = *task;
	return event;
}

/* The record makes the ring fill past a quarter: time to read, whatever the clock says. */
static __always_inline bool fills(__u64 held, __u32 size, __u32 ring_bytes)
{
	__u64 mark = ring_bytes / 4;

	return held < mark && held + size + 16 >= mark;
}

/* The reader is woken for the first record after a rest; it finds those that follow by itself. */
static __always_inline __u64 wakeup(void *ring, __u64 *woken_at, __u32 size, __u32 ring_bytes)
{
	__u64 held = bpf_ringbuf_query(ring, BPF_RB_AVAIL_DATA);
	__u64 now;

	if (!held) {
		now = bpf_ktime_get_boot_ns();
		if (now - *woken_at > constants.pause_ns) {
			*woken_at = now;
			return BPF_RB_FORCE_WAKEUP;
		}
	}
	return fills(held, size, ring_bytes) ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
}

static __always_inline void emit_submit_to(void *record, __u32 kind, bool to_high)
{
	struct scratch *scratch = scratch_of(record);
	struct counters *count = kind_counters(kind);
	struct event *event = record;
	__u32 size = scratch->used;
	long error;

	if (!count)
		goto out;
	barrier_var(size);
	if (size > RECORD_MAX)
		size = RECORD_MAX;
	event->size = size;
	event->sequence = count->sequence;
	COUNT(count->sequence);
	if (to_high)
		error = bpf_ringbuf_output(&high, record, size,
					   wakeup(&high, &high_woken_at, size,
						  constants.high_ring_bytes));
	else
		error = bpf_ringbuf_output(&bulk, record, size,
					   wakeup(&bulk, &bulk_woken_at, size,
						  constants.bulk_ring_bytes));
	if (error)
		COUNT(count->lost[LOST_RING_FULL]);
	else
		COUNT(count->sent);
out:
	give_back(scratch);
}

static __always_inline void emit_submit(void *record, __u32 kind)
{
	emit_submit_to(record, kind, is_high_value(kind));
}

/* Gives the scratch back without sending; counted as filtered. */
static __always_inline void emit_cancel(void *record, __u32 kind)
{
	struct counters *count = kind_counters(kind);

	if (count)
		COUNT(count->filtered);
	give_back(scratch_of(record));
}

/* Counts one operation that says nothing new, as filtered. */
static __always_inline void emit_nothing(__u32 kind)
{
	struct counters *count = wanted(kind);

	if (count)
		COUNT(count->filtered);
}

/* Where the next append goes, or NULL when the record is full. */
static __always_inline char *append_at(struct scratch *scratch, __u32 *offset)
{
	__u32 used = scratch->used;

	if (used >= RECORD_MAX - 1)
		return NULL;
	/* The compiler knows that the mask changes nothing, the verifier does not. */
	barrier_var(used);
	used &= RECORD_MAX - 1;
	*offset = used;
	return &scratch->record[used];
}

/* What could not be read is said, never guessed. */
static __always_inline void text_end(struct scratch *scratch, struct text *text)
{
	text->length = scratch->used - text->offset;
}

/* The longest path that a system call takes, with its NUL. */
#define PATH_BYTES 4096

/*
 * Whether a string goes on behind the @length bytes that were taken of it, all that were
 * allowed. The last one is always a NUL here, so ask what stands there in truth.
 */
static __always_inline bool is_cut(const void *from, __u32 length, bool user)
{
	const char *last = (const char *)from + length - 1;
	char found = 0;
	long error;

	error = user ? bpf_probe_read_user(&found, sizeof(found), last) :
		       bpf_probe_read_kernel(&found, sizeof(found), last);
	return error || found;
}

/*
 * A NUL-terminated string of at most @limit bytes with the NUL, which is not kept;
 * @user says in whose memory.
 */
static __always_inline void append_string(void *record, struct text *text, const void *from,
					  __u32 limit, bool user)
{
	struct scratch *scratch = scratch_of(record);
	__u32 offset;
	char *to = append_at(scratch, &offset);
	long length;

	if (!to) {
		text->truncated = 1;
		return;
	}
	text->offset = offset;
	barrier_var(limit);
	if (limit > PATH_BYTES)
		limit = PATH_BYTES;
	if (user)
		length = bpf_probe_read_user_str(to, limit, from);
	else
		length = bpf_probe_read_kernel_str(to, limit, from);
	if (length <= 0) {
		text->error = length;
		return;
	}
	if (length == limit)
		text->truncated = is_cut(from, limit, user);
	scratch->used = offset + length - 1;
	text->length = length - 1;
	if (scratch->used > RECORD_MAX) {
		text->truncated = 1;
		text->length -= scratch->used - RECORD_MAX;
		scratch->used = RECORD_MAX;
	}
}

/* @size bytes as they are. */
static __always_inline void append_bytes(void *record, struct text *text, const void *from,
					 __u64 size, __u32 limit, bool user)
{
	struct scratch *scratch = scratch_of(record);
	/* 64 bits: v6.1 does not carry a bound over to a register that was cut to 32. */
	__u64 length = size > limit ? limit : size;
	__u32 offset;
	char *to = append_at(scratch, &offset);
	long error;

	if (!to) {
		text->truncated = 1;
		return;
	}
	text->offset = offset;
	text->truncated = size > limit;
	if (length > RECORD_MAX - offset) {
		length = RECORD_MAX - offset;
		text->truncated = 1;
	}
	if (length > APPEND_MAX)
		length = APPEND_MAX;
	barrier_var(length);
	if (length > APPEND_MAX)
		return;
	error = user ? bpf_probe_read_user(to, length, from) :
		       bpf_probe_read_kernel(to, length, from);
	if (error) {
		text->error = error;
		return;
	}
	scratch->used = offset + length;
	text->length = length;
}

#endif
