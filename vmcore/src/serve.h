/*
 * vmcore/src/serve.h - the thread of lifeboat-vm that its clients speak with: control connections,
 * the agent port's socket, the serial log. It never waits for the machine (work.h does) nor for a
 * client: what a client does not take in time is dropped or the client is.
 */
#ifndef VMCORE_SERVE_H
#define VMCORE_SERVE_H

#include "vmcore/ctl.h"

struct vm_hub;
struct vm_machine;

enum {
	VM_SERVE_CLIENTS = 16,
	VM_SERVE_LOG_BYTES = 4 << 20 /* the serial log is cut to its last half beyond this */
};

struct vm_serve_cfg {
	struct vm_machine *m;
	struct vm_hub *hub;
	int kick_fd;      /* the hub's eventfd */
	int signal_fd;    /* readable: the machine is to end; it is left unread */
	int listen_fd;    /* SEQPACKET */
	int heartbeat_fd; /* listening STREAM, -1: none */
	int log_fd;       /* serial log, -1: none */
};

/* Serves until the machine is off, stopped by a client or a signal. 0, or why it could not go on.
 */
int vm_serve(const struct vm_serve_cfg *cfg, struct lb_err *err);

#endif
