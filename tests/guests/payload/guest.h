/*
 * tests/guests/payload/guest.h - what the parts of the test guest share.
 */
#ifndef TESTS_GUEST_H
#define TESTS_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline void guest_outb(uint16_t port, uint8_t v)
{
	__asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port) : "memory");
}

static inline uint8_t guest_inb(uint16_t port)
{
	uint8_t v;

	__asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port) : "memory");
	return v;
}

static inline void guest_outw(uint16_t port, uint16_t v)
{
	__asm__ volatile("outw %0, %1" : : "a"(v), "Nd"(port) : "memory");
}

static inline uint16_t guest_inw(uint16_t port)
{
	uint16_t v;

	__asm__ volatile("inw %1, %0" : "=a"(v) : "Nd"(port) : "memory");
	return v;
}

static inline void guest_outl(uint16_t port, uint32_t v)
{
	__asm__ volatile("outl %0, %1" : : "a"(v), "Nd"(port) : "memory");
}

static inline uint32_t guest_inl(uint16_t port)
{
	uint32_t v;

	__asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port) : "memory");
	return v;
}

/* prog=records (records.c). */
void guest_records(void);
/* prog=agent (agent.c). */
void guest_agent(void);
/* frames=1 (net.c). False: there is no card. */
bool guest_net_open(void);
void guest_net_send(uint64_t number, const uint8_t hash[32]);
/* Text to the first serial port. */
void guest_put(const char *s);
void guest_put_dec(uint64_t v);
void guest_put_hex(uint64_t v);
/* The number after "@key=" on the command line. */
uint64_t guest_number(const char *key, uint64_t otherwise);

#endif
