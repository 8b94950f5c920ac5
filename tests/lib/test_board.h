/*
 * tests/lib/test_board.h - a vmcore board without KVM: memory, recorded interrupts and events.
 */
#ifndef TESTS_TEST_BOARD_H
#define TESTS_TEST_BOARD_H

#include "board.h"

struct test_board {
	struct vm_mem mem;
	struct vm_board board;
	bool line[16];
	unsigned raised[16]; /* rising edges of each line */
	unsigned msis;
	uint64_t msi_addr;
	uint32_t msi_data;
	unsigned events[16];  /* by type */
	char serial[1 << 14]; /* what the first serial port said, NUL-terminated */
	size_t serial_len;
};

/* Asserts success. */
void test_board_init(struct test_board *t, uint64_t ram_bytes);
void test_board_fini(struct test_board *t);

#endif
