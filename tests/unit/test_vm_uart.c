/* The 16550A by script: what Linux, SeaBIOS and a DOS driver do to it. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "check.h"
#include "test_board.h"
#include "uart.h"

enum {
	COM1 = 0x3f8,
	IRQ = 4
};

struct world {
	struct test_board t;
	struct vm_uart *u;
};

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	struct lb_err err = {0};

	test_board_init(&w->t, VM_RAM_MIN_BYTES);
	assert_int_equal(vm_uart_create(&w->u, &w->t.board, &err), 0);
	vm_board_reset(&w->t.board);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	test_board_fini(&w->t);
	free(w);
	return 0;
}

static uint8_t in(struct world *w, unsigned reg)
{
	return (uint8_t)vm_board_pio_read(&w->t.board, (uint16_t)(COM1 + reg), 1);
}

static void out(struct world *w, unsigned reg, uint8_t v)
{
	vm_board_pio_write(&w->t.board, (uint16_t)(COM1 + reg), 1, v);
}

/* SeaBIOS src/serial.c, detect_serial() */
static void test_seabios_finds_it(void **state)
{
	struct world *w = *state;

	out(w, 1, 2);
	assert_int_equal(in(w, 1), 2);
	assert_int_equal(in(w, 2) & 0x3f, 2);
	out(w, 1, 0);
	assert_int_equal(in(w, 2), 1);
}

/* Linux drivers/tty/serial/8250/8250_port.c, autoconfig(): a 16550A and nothing more. */
static void test_linux_calls_it_16550a(void **state)
{
	struct world *w = *state;

	out(w, 1, 0);
	assert_int_equal(in(w, 1), 0);
	out(w, 1, 0x0f);
	assert_int_equal(in(w, 1), 0x0f);
	out(w, 1, 0x4f); /* no XScale */
	assert_int_equal(in(w, 1), 0x0f);
	out(w, 1, 0);
	out(w, 4, 0x1a);
	assert_int_equal(in(w, 6) & 0xf0, 0x90);
	out(w, 4, 0);
	assert_int_equal(in(w, 6) & 0xf0, 0xb0);
	out(w, 2, 1);
	assert_int_equal(in(w, 2) >> 6, 3);
	out(w, 3, 0x80);
	assert_int_not_equal(in(w, 2), 0); /* no EFR: no 16650 */
	out(w, 3, 0xbf);
	assert_int_not_equal(in(w, 2), 0);
	out(w, 3, 0);
	out(w, 2, 0);
	out(w, 3, 0x80);
	out(w, 2, 0x21);
	assert_int_equal(in(w, 2) >> 5, 6); /* no 64-byte FIFO: no 16750 */
	out(w, 3, 0);
	out(w, 7, 0x5a);
	assert_int_equal(in(w, 7), 0x5a);
}

static void test_sends(void **state)
{
	struct world *w = *state;

	for (const char *p = "hello\n"; *p != '\0'; p++) {
		assert_int_equal(in(w, 5) & 0x60, 0x60);
		out(w, 0, (uint8_t)*p);
	}
	assert_string_equal(w->t.serial, "hello\n");
	/* the divisor is no data */
	out(w, 3, 0x83);
	out(w, 0, 'x');
	out(w, 1, 0);
	assert_int_equal(in(w, 0), 'x');
	out(w, 3, 3);
	assert_string_equal(w->t.serial, "hello\n");
}

/* Each byte sent raises an edge: a driver that sends one a time never stalls. */
static void test_transmit_interrupts(void **state)
{
	struct world *w = *state;

	out(w, 4, 8);
	out(w, 1, 2);
	assert_true(w->t.line[IRQ]);
	assert_int_equal(in(w, 2), 2);
	assert_false(w->t.line[IRQ]);
	out(w, 0, 'a');
	assert_true(w->t.line[IRQ]);
	out(w, 0, 'b');
	assert_int_equal(w->t.raised[IRQ], 3);
	out(w, 1, 0);
	assert_false(w->t.line[IRQ]);
	out(w, 1, 2);
	assert_int_equal(w->t.raised[IRQ], 4);
	out(w, 4, 0); /* OUT2 gates the line */
	assert_false(w->t.line[IRQ]);
}

static void test_receives(void **state)
{
	struct world *w = *state;

	assert_int_equal(in(w, 0), 0);
	out(w, 4, 8);
	out(w, 1, 1);
	assert_int_equal(vm_uart_input(w->u, "ab", 2), 2);
	assert_true(w->t.line[IRQ]);
	assert_int_equal(in(w, 2), 4);
	assert_int_equal(in(w, 5) & 1, 1);
	assert_int_equal(in(w, 0), 'a');
	assert_true(w->t.line[IRQ]);
	assert_int_equal(in(w, 0), 'b');
	assert_false(w->t.line[IRQ]);
	assert_int_equal(in(w, 5) & 1, 0);
	out(w, 2, 0xc1); /* FIFO, trigger at 14 */
	assert_int_equal(vm_uart_input(w->u, "0123456789abc", 13), 13);
	assert_int_equal(in(w, 2), 0xcc);
	assert_int_equal(vm_uart_input(w->u, "d", 1), 1);
	assert_int_equal(in(w, 2), 0xc4);
}

static void test_input_is_bounded_and_nothing_is_lost(void **state)
{
	struct world *w = *state;
	uint8_t *p = malloc(VM_UART_INPUT_BYTES + 100);

	for (unsigned i = 0; i < VM_UART_INPUT_BYTES + 100; i++)
		p[i] = (uint8_t)(i * 7);
	assert_int_equal(vm_uart_input(w->u, p, VM_UART_INPUT_BYTES + 100), VM_UART_INPUT_BYTES);
	assert_int_equal(vm_uart_input(w->u, p, 1), 0);
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(in(w, 0), p[i]);
	assert_int_equal(vm_uart_input(w->u, p + VM_UART_INPUT_BYTES, 100), 100);
	for (unsigned i = 100; i < VM_UART_INPUT_BYTES + 100; i++)
		assert_int_equal(in(w, 0), p[i]);
	free(p);
}

static void test_loops_back(void **state)
{
	struct world *w = *state;

	out(w, 1, 8);
	out(w, 4, 0x18);
	(void)in(w, 6);
	out(w, 0, 'q');
	assert_string_equal(w->t.serial, "");
	assert_int_equal(in(w, 0), 'q');
	out(w, 4, 0x1b); /* DTR, RTS: DSR and CTS rise */
	assert_int_equal(in(w, 2), 0);
	assert_int_equal(in(w, 6), 0xb3);
	assert_int_equal(in(w, 2), 1);
	assert_false(w->t.line[IRQ]);
}

static void test_state_comes_back(void **state)
{
	struct world *w = *state;
	struct world *v = NULL;
	uint8_t bytes[256];
	struct lb_wr wr = lb_wr_init(bytes, sizeof(bytes));
	struct lb_err err = {0};
	struct lb_rd rd;

	out(w, 4, 8);
	out(w, 1, 1);
	out(w, 3, 3);
	(void)vm_uart_input(w->u, "xyz", 3);
	(void)in(w, 0);
	assert_true(vm_board_save(&w->t.board, &wr));
	(void)setup((void **)&v);
	rd = lb_rd_init(bytes, wr.len);
	assert_int_equal(vm_board_load(&v->t.board, &rd, &err), 0);
	vm_board_resume(&v->t.board);
	assert_true(v->t.line[IRQ]);
	assert_int_equal(in(v, 3), 3);
	assert_int_equal(in(v, 0), 'y');
	assert_int_equal(in(v, 0), 'z');
	assert_false(v->t.line[IRQ]);
	bytes[28 + 9 + 1] = 0x11; /* more bytes than the queue has */
	rd = lb_rd_init(bytes, wr.len);
	assert_int_equal(vm_board_load(&v->t.board, &rd, &err), LB_ECORRUPT);
	assert_int_equal(in(v, 5) & 1, 0);
	(void)teardown((void **)&v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_seabios_finds_it, setup, teardown),
		cmocka_unit_test_setup_teardown(test_linux_calls_it_16550a, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sends, setup, teardown),
		cmocka_unit_test_setup_teardown(test_transmit_interrupts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_receives, setup, teardown),
		cmocka_unit_test_setup_teardown(test_input_is_bounded_and_nothing_is_lost, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_loops_back, setup, teardown),
		cmocka_unit_test_setup_teardown(test_state_comes_back, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
