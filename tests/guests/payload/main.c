/*
 * The ring-3 part. Command line: words "key=value".
 *
 *   prog=chain  steps=N pages=P seed=S every=K   N steps of the chain over P pages; a line
 *                                                "c STEP HASH" every K steps, "done ..." at the end
 *   prog=smp    lines "s SHARED"                 all processors count, locked and each alone
 *   prog=touch  pages=P round=R                  writes one word in each of R pages, chosen anew
 *               fill=1 step=1 quiet=1 pause=N      each round; "t ROUND" after each unless quiet;
 *                                                step: as many rounds as ctl.go says
 *   prog=fill   pages=P                          fills P pages with a pattern, "filled", counts on
 *   prog=records every=K frames=1                see records.c
 *
 *   prog=agent                                   see agent.c
 *
 *   prog=reset                                   "ready", then what ctl.go says: 1 the keyboard
 *                                                controller's reset, 2 port 0xcf9, 3 triple fault
 *
 *   pit=HZ                                       programs the PIT, interrupts through the PIC
 *
 * At the end it says "end" and stays in a loop in ring 3.
 */
#include "guest.h"
#include "payload.h"

#define CTL ((volatile struct payload_ctl *)PAYLOAD_CTL)

extern uint64_t boot_params;
extern volatile uint8_t idt[4096];
void guest_main(unsigned cpu, const uint8_t *params);
void guest_ap(unsigned cpu);

/* ---- ports and text ---- */

void guest_put(const char *s)
{
	for (; *s != '\0'; s++)
		guest_outb(0x3f8, (uint8_t)*s);
}

void guest_put_dec(uint64_t v)
{
	char text[21], *p = text + sizeof(text) - 1;

	*p = '\0';
	do
		*--p = (char)('0' + v % 10);
	while ((v /= 10) != 0);
	guest_put(p);
}

void guest_put_hex(uint64_t v)
{
	char text[17];

	for (int i = 0; i < 16; i++)
		text[i] = "0123456789abcdef"[v >> (60 - 4 * i) & 15];
	text[16] = '\0';
	guest_put(text);
}

/* ---- command line ---- */

static const char *cmdline;

static const char *find(const char *key)
{
	for (const char *p = cmdline; *p != '\0';) {
		const char *k = key;

		while (*k != '\0' && *p == *k) {
			p++;
			k++;
		}
		if (*k == '\0' && *p == '=')
			return p + 1;
		while (*p != '\0' && *p != ' ')
			p++;
		while (*p == ' ')
			p++;
	}
	return NULL;
}

uint64_t guest_number(const char *key, uint64_t otherwise)
{
	const char *p = find(key);
	uint64_t v = 0;

	if (p == NULL)
		return otherwise;
	for (; *p >= '0' && *p <= '9'; p++)
		v = v * 10 + (uint64_t)(*p - '0');
	return v;
}

static bool prog_is(const char *name)
{
	const char *p = find("prog");

	if (p == NULL)
		return false;
	while (*name != '\0' && *p == *name) {
		p++;
		name++;
	}
	return *name == '\0' && (*p == '\0' || *p == ' ');
}

/* ---- programs ---- */

static void chain(void)
{
	uint64_t steps = guest_number("steps", 1000000);
	uint64_t words = guest_number("pages", 64) * PAYLOAD_PAGE_WORDS;
	uint64_t every = guest_number("every", 0), left = every;
	volatile uint64_t *table = (volatile uint64_t *)PAYLOAD_TABLE;
	struct payload_chain c = {.x = guest_number("seed", 1)};
	typedef uint64_t vec __attribute__((vector_size(16)));
	vec sum = {0, 0};

	while (c.step < steps) {
		payload_chain_step(&c, table, words);
		sum += (vec){c.x, c.h};
		/* keep it in a register: it is state that only XSAVE carries */
		__asm__ volatile("" : "+x"(sum));
		CTL->hash = c.h;
		CTL->step = c.step;
		if (every != 0 && --left == 0) {
			left = every;
			guest_put("c ");
			guest_put_dec(c.step);
			guest_put(" ");
			guest_put_hex(c.h);
			guest_put("\n");
		}
	}
	guest_put("done ");
	guest_put_dec(c.step);
	guest_put(" ");
	guest_put_hex(c.h);
	guest_put(" ");
	guest_put_hex(sum[0]);
	guest_put(" ");
	guest_put_hex(sum[1]);
	guest_put("\n");
}

static void smp_count(unsigned cpu)
{
	for (;;) {
		__atomic_fetch_add(&CTL->shared, 1, __ATOMIC_SEQ_CST);
		CTL->own[cpu]++;
	}
}

static void smp(void)
{
	guest_put("smp\n");
	for (uint64_t n = 0;; n++) {
		__atomic_fetch_add(&CTL->shared, 1, __ATOMIC_SEQ_CST);
		CTL->own[0]++;
		if (n % 10000000 != 0)
			continue;
		guest_put("s ");
		guest_put_dec(CTL->shared);
		guest_put("\n");
	}
}

static void fill_pages(void)
{
	uint64_t words = guest_number("pages", 1024) * PAYLOAD_PAGE_WORDS;
	volatile uint64_t *table = (volatile uint64_t *)PAYLOAD_TABLE;

	for (uint64_t i = 0; i < words; i++)
		table[i] = i * UINT64_C(0x9e3779b97f4a7c15);
}

static void touch_round(uint64_t *x, uint64_t pages, uint64_t round)
{
	volatile uint64_t *table = (volatile uint64_t *)PAYLOAD_TABLE;

	for (uint64_t i = 0; i < round; i++) {
		*x = *x * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		table[(*x >> 20) % pages * PAYLOAD_PAGE_WORDS + (*x >> 55)] = *x;
	}
}

static void touch(void)
{
	uint64_t pages = guest_number("pages", 1024), round = guest_number("round", 100);
	uint64_t x = guest_number("seed", 1), pause = guest_number("pause", 0);
	bool step = guest_number("step", 0) != 0, quiet = guest_number("quiet", 0) != 0;

	if (guest_number("fill", 0) != 0)
		fill_pages();
	guest_put("touch\n");
	for (;;) {
		while (step && CTL->go <= CTL->echo)
			;
		touch_round(&x, pages, round);
		CTL->echo++;
		if (!quiet) {
			guest_put("t ");
			guest_put_dec(CTL->echo);
			guest_put("\n");
		}
		for (volatile uint64_t i = 0; i < pause; i++)
			;
	}
}

static void fill(void)
{
	fill_pages();
	guest_put("filled\n");
	for (;;) {
		CTL->echo++;
		if (CTL->echo % 65536 == 0)
			guest_outb(0x402, '.'); /* a sign of life on the debug port */
	}
}

static void reset(void)
{
	uint64_t how;

	guest_put("ready\n");
	while ((how = CTL->go) == 0)
		;
	CTL->go = 0; /* memory outlives a reset */
	if (how == 1)
		guest_outb(0x64, 0xfe);
	if (how == 2)
		guest_outb(0xcf9, 6);
	for (unsigned i = 0; how == 3 && i < sizeof(idt); i++)
		idt[i] = 0;
	if (how == 3)
		__asm__ volatile("ud2");
	for (;;)
		;
}

/* Rate generator on channel 0, both PICs at vectors 0x20 and 0x28, only line 0 open. */
static void pit_start(uint64_t hz)
{
	uint64_t count = 1193182 / hz;

	guest_outb(0x20, 0x11);
	guest_outb(0x21, 0x20);
	guest_outb(0x21, 4);
	guest_outb(0x21, 1);
	guest_outb(0xa0, 0x11);
	guest_outb(0xa1, 0x28);
	guest_outb(0xa1, 2);
	guest_outb(0xa1, 1);
	guest_outb(0x21, 0xfe);
	guest_outb(0xa1, 0xff);
	guest_outb(0x43, 0x34);
	guest_outb(0x40, (uint8_t)count);
	guest_outb(0x40, (uint8_t)(count >> 8));
}

void guest_main(unsigned cpu, const uint8_t *params)
{
	cmdline = (const char *)(uint64_t)(*(const uint32_t *)(params + 0x228));
	(void)cpu;
	if (guest_number("pit", 0) != 0)
		pit_start(guest_number("pit", 0));
	guest_put("payload\n");
	if (prog_is("chain"))
		chain();
	else if (prog_is("smp"))
		smp();
	else if (prog_is("touch"))
		touch();
	else if (prog_is("fill"))
		fill();
	else if (prog_is("records"))
		guest_records();
	else if (prog_is("reset"))
		reset();
	else if (prog_is("agent"))
		guest_agent();
	guest_put("end\n");
	for (;;)
		;
}

/* The others have nothing to do unless the program is theirs too. */
void guest_ap(unsigned cpu)
{
	while (cmdline == NULL)
		__asm__ volatile("" ::: "memory");
	if (prog_is("smp"))
		smp_count(cpu);
	for (;;)
		;
}
