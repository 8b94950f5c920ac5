/*
 * prog=records: hash-chained records on a virtio disk and in memory that must agree.
 *
 * Record N is sector N - 1, in the layout of tests/guests/drwriter.c: it holds the SHA-256 of the
 * one before. A record is written, then known in memory (its hash, ctl.record), then the next one
 * begins. So in a point where memory and disk are of one instant, the disk holds every record that
 * memory knows, and at most one more.
 *
 *   check N HASH   at a cold start: the disk's chain was walked, it goes on behind it
 *   r N HASH       every "every" records
 *   BAD ...        disk and memory do not agree; it stops
 *
 * With frames=1 what is told is sent as a frame too (net.c), after it was told.
 *
 * After each record one of the earlier ones is read again and compared with memory: a machine that
 * goes on from a checkpoint over the wrong disk says so by itself.
 */
#include "../sha256.h"
#include "guest.h"
#include "payload.h"

#define CTL         ((volatile struct payload_ctl *)PAYLOAD_CTL)
#define KNOWN       ((uint8_t *)PAYLOAD_TABLE) /* hash of record N at 32 * N */
#define QUEUE_AT    UINT64_C(0x500000)
#define IO_BASE     0xc000
#define QUEUE_BYTES 0x4000 /* rings of 256 */
#define SPINS       UINT64_C(4000000000)

enum {
	RECORD_BYTES = 512,
	HASH_BYTES = 32,
	PCI_ADDRESS = 0xcf8,
	PCI_DATA = 0xcfc,
	VIRTIO_BLK = 0x10011af4,
	/* legacy virtio over PCI [VIRTIO 1.2, 4.1.4.8] */
	REG_GUEST_FEATURES = 4,
	REG_QUEUE_PFN = 8,
	REG_QUEUE_SIZE = 12,
	REG_QUEUE_SELECT = 14,
	REG_NOTIFY = 16,
	REG_STATUS = 18,
	REG_CAPACITY = 20,
	T_IN = 0,
	T_OUT = 1,
	DESC_NEXT = 1,
	DESC_WRITE = 2
};

struct record {
	char magic[8];
	uint64_t seq, wall_ns;
	uint8_t prev[HASH_BYTES];
	uint8_t fill[RECORD_BYTES - 24 - 2 * HASH_BYTES];
	uint8_t hash[HASH_BYTES];
};

struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

struct request {
	uint32_t type, zero;
	uint64_t sector;
	uint8_t status;
};

static struct {
	volatile struct desc *desc;
	volatile uint16_t *avail, *used; /* flags, index, ring */
	uint16_t size, done;
	uint64_t records; /* that fit */
	struct request req;
} disk;

void *memcpy(void *to, const void *from, size_t n)
{
	uint8_t *t = to;
	const uint8_t *f = from;

	while (n-- > 0)
		*t++ = *f++;
	return to;
}

void *memmove(void *to, const void *from, size_t n)
{
	uint8_t *t = to;
	const uint8_t *f = from;

	if (t <= f)
		return memcpy(to, from, n);
	while (n-- > 0)
		t[n] = f[n];
	return to;
}

void *memset(void *to, int c, size_t n)
{
	uint8_t *t = to;

	while (n-- > 0)
		*t++ = (uint8_t)c;
	return to;
}

int memcmp(const void *a, const void *b, size_t n)
{
	const uint8_t *x = a, *y = b;

	for (; n > 0; n--, x++, y++)
		if (*x != *y)
			return *x < *y ? -1 : 1;
	return 0;
}

static uint32_t pci_read(uint32_t slot, uint32_t reg)
{
	guest_outl(PCI_ADDRESS, 0x80000000 | slot << 11 | reg);
	return guest_inl(PCI_DATA);
}

static void pci_write(uint32_t slot, uint32_t reg, uint32_t v)
{
	guest_outl(PCI_ADDRESS, 0x80000000 | slot << 11 | reg);
	guest_outl(PCI_DATA, v);
}

static _Noreturn void bad(const char *what, uint64_t n)
{
	guest_put("BAD ");
	guest_put(what);
	guest_put(" ");
	guest_put_dec(n);
	guest_put("\n");
	for (;;)
		;
}

static void disk_open(void)
{
	uint32_t slot = 0;
	uint64_t used;

	while (slot < 32 && pci_read(slot, 0) != VIRTIO_BLK)
		slot++;
	if (slot == 32)
		bad("no virtio disk", slot);
	pci_write(slot, 0x10, IO_BASE);
	pci_write(slot, 4, 5); /* ports, bus master */
	guest_outb(IO_BASE + REG_STATUS, 0);
	guest_outb(IO_BASE + REG_STATUS, 3);
	guest_outl(IO_BASE + REG_GUEST_FEATURES, 0);
	guest_outw(IO_BASE + REG_QUEUE_SELECT, 0);
	disk.size = guest_inw(IO_BASE + REG_QUEUE_SIZE);
	disk.desc = (volatile struct desc *)QUEUE_AT;
	memset((void *)QUEUE_AT, 0, QUEUE_BYTES); /* memory outlives a reset */
	disk.done = 0;
	disk.avail = (volatile uint16_t *)(QUEUE_AT + 16 * disk.size);
	used = (QUEUE_AT + 18 * disk.size + 6 + 4095) & ~UINT64_C(4095);
	disk.used = (volatile uint16_t *)used;
	disk.avail[0] = 1; /* no interrupts: it is polled */
	guest_outl(IO_BASE + REG_QUEUE_PFN, QUEUE_AT >> 12);
	guest_outb(IO_BASE + REG_STATUS, 7);
	disk.records = guest_inl(IO_BASE + REG_CAPACITY);
}

static void disk_io(uint32_t type, uint64_t sector, struct record *r)
{
	volatile struct desc *d = disk.desc;
	uint64_t spins = 0;

	disk.req = (struct request){.type = type, .sector = sector, .status = 0xff};
	d[0] = (struct desc){(uint64_t)&disk.req, 16, DESC_NEXT, 1};
	d[1] = (struct desc){(uint64_t)r, RECORD_BYTES,
			     (uint16_t)(DESC_NEXT | (type == T_IN ? DESC_WRITE : 0)), 2};
	d[2] = (struct desc){(uint64_t)&disk.req.status, 1, DESC_WRITE, 0};
	disk.avail[2 + disk.avail[1] % disk.size] = 0;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	disk.avail[1]++;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	guest_outw(IO_BASE + REG_NOTIFY, 0);
	disk.done++;
	while (disk.used[1] != disk.done)
		if (++spins == SPINS)
			bad("disk does not answer, sector", sector);
	if (*(volatile uint8_t *)&disk.req.status != 0)
		bad("disk error at sector", sector);
}

static void hash_record(uint8_t out[HASH_BYTES], const struct record *r)
{
	sha256(out, r, RECORD_BYTES - HASH_BYTES);
}

static void learn(uint64_t n, const uint8_t hash[HASH_BYTES])
{
	memcpy(KNOWN + n * HASH_BYTES, hash, HASH_BYTES);
	for (unsigned i = 0; i < HASH_BYTES; i++)
		CTL->record_hash[i] = hash[i];
	CTL->record = n;
}

static void say(const char *word, uint64_t n)
{
	guest_put(word);
	guest_put(" ");
	guest_put_dec(n);
	guest_put(" ");
	for (unsigned i = 0; i < HASH_BYTES; i += 8) {
		uint64_t v = 0;

		for (unsigned k = 0; k < 8; k++)
			v = v << 8 | KNOWN[n * HASH_BYTES + i + k];
		guest_put_hex(v);
	}
	guest_put("\n");
}

static bool whole(const struct record *r, uint64_t n)
{
	uint8_t hash[HASH_BYTES];

	hash_record(hash, r);
	return memcmp(r->magic, "LBWREC1\n", 8) == 0 && r->seq == n &&
	       memcmp(r->hash, hash, HASH_BYTES) == 0 &&
	       memcmp(r->prev, KNOWN + (n - 1) * HASH_BYTES, HASH_BYTES) == 0;
}

static void walk(void)
{
	static struct record r;
	uint64_t n = 0;

	memset(KNOWN, 0, HASH_BYTES);
	CTL->record = 0;
	for (; n < disk.records; n++) {
		disk_io(T_IN, n, &r);
		if (!whole(&r, n + 1))
			break;
		learn(n + 1, r.hash);
	}
	say("check", n);
}

static void again(uint64_t n)
{
	static struct record r;

	disk_io(T_IN, n - 1, &r);
	if (!whole(&r, n) || memcmp(r.hash, KNOWN + n * HASH_BYTES, HASH_BYTES) != 0)
		bad("record", n);
}

void guest_records(void)
{
	static struct record r;
	uint64_t every = guest_number("every", 100), x = guest_number("seed", 1);
	bool frames = guest_number("frames", 0) != 0;

	disk_open();
	if (frames && !guest_net_open())
		bad("no virtio card", 0);
	walk();
	for (uint64_t n = CTL->record + 1; n <= disk.records; n++) {
		r = (struct record){.magic = "LBWREC1\n", .seq = n};
		memcpy(r.prev, KNOWN + (n - 1) * HASH_BYTES, HASH_BYTES);
		for (unsigned i = 0; i < sizeof(r.fill); i++) {
			x = x * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
			r.fill[i] = (uint8_t)(x >> 56);
		}
		hash_record(r.hash, &r);
		disk_io(T_OUT, n - 1, &r);
		learn(n, r.hash);
		again((x >> 20) % n + 1);
		if (n % every != 0)
			continue;
		say("r", n);
		if (frames)
			guest_net_send(n, KNOWN + n * HASH_BYTES);
	}
	guest_put("full\n");
}
