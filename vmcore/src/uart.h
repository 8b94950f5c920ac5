/*
 * vmcore/src/uart.h - the serial port COM1: a 16550A at 0x3f8, IRQ 4. [National PC16550D, 1995]
 *
 * What the guest sends is VM_EVENT_SERIAL, at once and in order; sending never waits. What is typed
 * waits in a bounded queue that stands for the line and the receive FIFO together, so nothing is
 * ever overrun: what does not fit is the caller's to send again.
 */
#ifndef VMCORE_UART_H
#define VMCORE_UART_H

#include <stddef.h>

struct lb_err;
struct vm_board;
struct vm_uart;

enum {
	VM_UART_INPUT_BYTES = 4096
};

/* Lives as long as the board. */
int vm_uart_create(struct vm_uart **out, struct vm_board *b, struct lb_err *err);
/* Any thread; takes the board's lock. Returns how many of the bytes fitted. */
size_t vm_uart_input(struct vm_uart *u, const void *p, size_t len);

#endif
