/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Many fields of one kernel object for the price of one read.
 *
 * peek() copies the start of the object, PEEKED() takes a field out of the copy. A
 * field that lies further back, on another kernel or with a randomised layout, is
 * read on its own, so the two always give the same.
 */
#ifndef NODEAGENT_PEEK_H
#define NODEAGENT_PEEK_H

#include "maps.h"
#include "compat.h"

static __always_inline long peek(struct peek *to, const void *object)
{
	return bpf_probe_read_kernel(to->bytes, PEEK_BYTES, object);
}

#define PEEKED(peek, object, field)                                              \
	({                                                                       \
		__typeof_unqual__((object)->field) _value;                       \
		__u32 _offset = bpf_core_field_offset((object)->field);          \
                                                                                 \
		if (_offset <= PEEK_BYTES - sizeof(_value))                      \
			_value = *(typeof(_value) *)((peek)->bytes + _offset);   \
		else                                                             \
			bpf_probe_read_kernel(&_value, sizeof(_value),           \
					      (const char *)(object) + _offset); \
		_value;                                                          \
	})

#endif
