/*
 * tests/guests/payload/payload.h - the test guest's memory, and what it computes.
 *
 * The guest is a kernel only in name: a few ring-0 instructions set up paging, interrupts and
 * processors, everything else runs in ring 3, which every KVM runs natively. Its command line says
 * what to do: see main.c.
 *
 * Both sides include this: the guest, and the test that computes the same natively and looks at the
 * guest's memory.
 */
#ifndef TESTS_PAYLOAD_H
#define TESTS_PAYLOAD_H

#include <stdint.h>

enum {
	PAYLOAD_CPUS = 4,
	PAYLOAD_PAGE_WORDS = 512
};

#define PAYLOAD_CTL   UINT64_C(0x400000)  /* struct payload_ctl */
#define PAYLOAD_TABLE UINT64_C(0x1000000) /* working memory, to the end of RAM */

/* Everything volatile: interrupt handlers and other processors write it. */
struct payload_ctl {
	uint64_t online;            /* processors that came up */
	uint64_t lapic_ticks;       /* interrupts of all local timers */
	uint64_t pit_ticks;         /* interrupts of the PIT, through PIC or IOAPIC */
	uint64_t step;              /* of the chain: the last one that is whole */
	uint64_t hash;              /* of the chain */
	uint64_t shared;            /* prog=smp: counted by all, locked */
	uint64_t own[PAYLOAD_CPUS]; /* prog=smp: counted by each */
	uint64_t echo;              /* prog=touch: rounds done; prog=fill: counts after it */
	uint64_t record;            /* prog=records: the last record that is whole in memory */
	uint8_t record_hash[32];    /* its hash */
	uint64_t go; /* prog=touch step=1: rounds that may be done; prog=reset: how */
};

/* The chain: each step's result depends on all steps before and on the table. */
struct payload_chain {
	uint64_t x, h, step;
};

static inline void payload_chain_step(struct payload_chain *c, volatile uint64_t *table,
				      uint64_t words)
{
	uint64_t at;

	c->x = c->x * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	at = (c->x >> 20) % words;
	table[at] = table[at] ^ c->x;
	c->h = (c->h << 5 | c->h >> 59) ^ (table[at] * UINT64_C(0x9e3779b97f4a7c15));
	c->step++;
}

#endif
