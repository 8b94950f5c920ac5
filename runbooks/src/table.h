/*
 * table.h - the language as data: one row per key. The checker (fill.c), the JSON Schema and the
 * reference table (schema.c) read this and nothing else, so they cannot drift apart.
 */
#ifndef RUNBOOKS_TABLE_H
#define RUNBOOKS_TABLE_H

#include <stddef.h>
#include <stdint.h>

#include "runbooks/lang.h"

enum rb_sec { /* which map the key stands in */
	RB_SEC_TOP,
	RB_SEC_MAPS,
	RB_SEC_NETWORK,
	RB_SEC_IP,
	RB_SEC_GROUP,
	RB_SEC_STEP,
	RB_SEC_PROBE,
	RB_SEC_COUNT
};

enum rb_kt {
	RB_KT_CONST, /* exactly .choices */
	RB_KT_NAME,  /* [A-Za-z0-9._-]{1,64} into char[RB_NAME_BYTES] */
	RB_KT_REF,   /* NAME of something else; taken up by check.c */
	RB_KT_TEXT,  /* 1..256 bytes, no control characters, into char[RB_TEXT_BYTES] */
	RB_KT_U32,
	RB_KT_PORT,     /* uint16_t, 1..65535 */
	RB_KT_DURATION, /* uint64_t ns */
	RB_KT_RANGE,    /* "10s..60s" or "10s" into two uint64_t ns */
	RB_KT_ENUM,     /* int: position in .choices */
	RB_KT_SET,      /* list of .choices into an unsigned of bits */
	RB_KT_CIDR,     /* "192.0.2.0/24" into struct rb_cidr */
	RB_KT_NAMES,    /* list of NAME; taken up by check.c */
	RB_KT_ARGV,     /* list of text; taken up by check.c */
	RB_KT_VARS,     /* map of name to text; taken up by check.c */
	RB_KT_MAP,      /* a map of section .sub; taken up by check.c */
	RB_KT_MAP_OF,   /* a map of free names to maps of section .sub */
	RB_KT_LIST_OF,  /* a list of maps of section .sub */
	RB_KT_LATER,    /* known, refused: not available in this version */
};

struct rb_cidr {
	uint32_t addr; /* host byte order */
	uint8_t bits;
};

struct rb_key {
	enum rb_sec sec;
	enum rb_kt type;
	const char *key;
	size_t offset;       /* in the struct of the section */
	uint64_t min, max;   /* of numbers, durations (ns) and lists (items); 0,0: the type's own */
	const char *choices; /* "a|b|c" */
	enum rb_sec sub;
	unsigned actions;  /* STEP: bits of the actions it belongs to */
	unsigned required; /* STEP: bits of the actions that need it; else 0 or 1 */
	const char *dflt;  /* as one would write it, for people; NULL: none */
	const char *help;
};

extern const struct rb_key rb_keys[];
extern const size_t rb_key_count;
extern const char *const rb_sec_names[RB_SEC_COUNT];

/* In the language of this version? */
bool rb_action_available(enum rb_action a);
/* @b waits for @a by group priority, or because it is a finally step. Not by needs. */
bool rb_barrier_edge(const struct rb_runbook *rb, uint32_t a, uint32_t b);

#define RB_BIT(action) (1u << (action))
#define RB_ALL_ACTIONS ((1u << RB_ACTION_COUNT) - 1u)

#define RB_CHOICE_MODES    "drill|failover|planned"
#define RB_CHOICE_POLICIES "halt|continue|ask"

/* Structs that a section fills but that no public header has. */
struct rb_top {
	char name[RB_NAME_BYTES];
	uint64_t rto_ns;
	unsigned modes;
};
struct rb_probe_in {
	uint16_t port;
	char serial[RB_TEXT_BYTES];
	int guest;
	uint64_t within_ns;
};
struct rb_ip_in {
	struct rb_cidr from, to;
};
/* struct rb_group and struct rb_step are filled in place; their enums are ints to the table. */

#endif
