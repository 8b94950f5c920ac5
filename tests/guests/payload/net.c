/*
 * frames=1: a frame on the first virtio card for every record that is told, so that somebody
 * outside can judge what left the machine. Broadcast, type 0x88b5 (for experiments), then the
 * record's number (u64, little-endian), its hash and the date of the clock chip as six BCD bytes:
 * second, minute, hour, day, month, year.
 *
 * One frame at a time: a card that holds frames back until the other site has the point stops the
 * guest.
 */
#include "guest.h"

#define QUEUE_AT  UINT64_C(0x580000)
#define QUEUE_END UINT64_C(0x584000) /* rings of 256 */
#define IO_BASE   0xc100
#define TX        1

enum {
	PCI_ADDRESS = 0xcf8,
	PCI_DATA = 0xcfc,
	VIRTIO_NET = 0x10001af4,
	REG_GUEST_FEATURES = 4,
	REG_QUEUE_PFN = 8,
	REG_QUEUE_SIZE = 12,
	REG_QUEUE_SELECT = 14,
	REG_NOTIFY = 16,
	REG_STATUS = 18,
	REG_MAC = 20,
	RTC_STATUS_A = 10,
	RTC_UPDATING = 0x80
};

struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

/* The header of a frame without any offload, and the frame. */
struct __attribute__((packed)) frame {
	uint8_t header[10];
	uint8_t to[6], from[6], type[2];
	uint64_t number;
	uint8_t hash[32];
	uint8_t date[6];
};

static struct {
	volatile struct desc *desc;
	volatile uint16_t *avail, *used; /* flags, index, ring */
	uint16_t size, done;
	struct frame frame;
} net;

static uint32_t config(uint32_t slot, uint32_t reg)
{
	guest_outl(PCI_ADDRESS, 0x80000000 | slot << 11 | reg);
	return guest_inl(PCI_DATA);
}

static void configure(uint32_t slot, uint32_t reg, uint32_t v)
{
	guest_outl(PCI_ADDRESS, 0x80000000 | slot << 11 | reg);
	guest_outl(PCI_DATA, v);
}

bool guest_net_open(void)
{
	uint32_t slot = 0;

	while (slot < 32 && config(slot, 0) != VIRTIO_NET)
		slot++;
	if (slot == 32)
		return false;
	configure(slot, 0x10, IO_BASE);
	configure(slot, 4, 5); /* ports, bus master */
	guest_outb(IO_BASE + REG_STATUS, 0);
	guest_outb(IO_BASE + REG_STATUS, 3);
	guest_outl(IO_BASE + REG_GUEST_FEATURES, 0);
	guest_outw(IO_BASE + REG_QUEUE_SELECT, TX);
	net.size = guest_inw(IO_BASE + REG_QUEUE_SIZE);
	net.desc = (volatile struct desc *)QUEUE_AT;
	net.avail = (volatile uint16_t *)(QUEUE_AT + 16 * net.size);
	net.used = (volatile uint16_t *)((QUEUE_AT + 18 * net.size + 6 + 4095) & ~UINT64_C(4095));
	for (volatile uint8_t *p = (volatile uint8_t *)QUEUE_AT; p < (volatile uint8_t *)QUEUE_END;
	     p++)
		*p = 0; /* memory outlives a reset */
	net.done = 0;
	net.avail[0] = 1; /* no interrupts: it is polled */
	guest_outl(IO_BASE + REG_QUEUE_PFN, QUEUE_AT >> 12);
	guest_outb(IO_BASE + REG_STATUS, 7);
	for (unsigned i = 0; i < 6; i++) {
		net.frame.to[i] = 0xff;
		net.frame.from[i] = guest_inb((uint16_t)(IO_BASE + REG_MAC + i));
	}
	net.frame.type[0] = 0x88;
	net.frame.type[1] = 0xb5;
	return true;
}

static uint8_t rtc(uint8_t reg)
{
	guest_outb(0x70, reg);
	return guest_inb(0x71);
}

static void read_date(uint8_t date[6])
{
	static const uint8_t reg[6] = {0, 2, 4, 7, 8, 9};

	while ((rtc(RTC_STATUS_A) & RTC_UPDATING) != 0)
		;
	for (unsigned i = 0; i < 6; i++)
		date[i] = rtc(reg[i]);
}

void guest_net_send(uint64_t number, const uint8_t hash[32])
{
	net.frame.number = number;
	for (unsigned i = 0; i < 32; i++)
		net.frame.hash[i] = hash[i];
	read_date(net.frame.date);
	net.desc[0] = (struct desc){(uint64_t)&net.frame, sizeof(net.frame), 0, 0};
	net.avail[2 + net.avail[1] % net.size] = 0;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	net.avail[1]++;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	guest_outw(IO_BASE + REG_NOTIFY, TX);
	net.done++;
	while (net.used[1] != net.done)
		;
}
