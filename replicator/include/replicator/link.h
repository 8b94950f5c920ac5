/*
 * replicator/link.h - TLS 1.3 connections that carry frames. One thread per connection.
 *
 * Profile: TLS 1.3 only, AES-256-GCM or ChaCha20, X25519/P-256, Ed25519 or ECDSA P-256
 * certificates, both sides authenticated against the deployment's own CA and nothing else, no
 * tickets, no resumption, no early data. The peer's site id is the URI SAN "lifeboat:<deployment
 * hex>:site:<site hex>"; both parts are checked.
 */
#ifndef REPLICATOR_LINK_H
#define REPLICATOR_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/id.h"
#include "replicator/frame.h"

struct lb_loop;
struct lb_buf;
struct rep_tls;
struct rep_link;

/* PEM files. Errors: LB_EINPUT naming the file and what is wrong (foreign CA, key does not fit). A
 * certificate that has ended, or not begun, is taken: peers refuse it, at each connection. */
int rep_tls_create(struct rep_tls **out, bool server, const struct lb_id *deployment,
		   const char *ca_path, const char *cert_path, const char *key_path,
		   struct lb_err *err);
/* Connections that are made from now on use what the files hold now; those there are go on. After a
 * failure nothing is changed. Thread: any. Errors: as above. */
int rep_tls_reload(struct rep_tls *t, const char *ca_path, const char *cert_path,
		   const char *key_path, struct lb_err *err);
void rep_tls_destroy(struct rep_tls *t);

struct rep_link_frame {
	enum rep_frame_type type;
	struct lb_buf *payload; /* reference is the receiver's */
	bool has_leaf;
	struct lb_hash leaf; /* RECORD of header, pack, digests, index: Merkle leaf of the body,
				computed on the link's thread */
};
struct rep_link_cfg {
	struct lb_loop *loop;
	struct rep_tls *tls;
	uint64_t connect_timeout_ns; /* default 10 s, covers the handshake too */
	uint64_t idle_timeout_ns;    /* nothing received for so long: dead; default 30 s;
					UINT64_MAX: never */
	size_t max_queued_bytes;     /* of frames to send; default 16 MiB */
	/* All on the loop's thread. on_up: @peer is the site id in the verified certificate.
	 * on_down comes exactly once, last. */
	void (*on_up)(void *arg, struct rep_link *l, const struct lb_id *peer);
	void (*on_frame)(void *arg, struct rep_link *l, struct rep_link_frame *f);
	void (*on_down)(void *arg, struct rep_link *l, const struct lb_err *err);
	void *arg;
};
int rep_link_connect(struct rep_link **out, const struct rep_link_cfg *cfg, const char *host,
		     uint16_t port, struct lb_err *err);
/* Takes @fd, a connected socket, and plays the server's side of the handshake. */
int rep_link_accept(struct rep_link **out, const struct rep_link_cfg *cfg, int fd,
		    struct lb_err *err);
/* Queue a whole encoded frame (takes a reference). LB_EAGAIN when the queue is full, LB_ECLOSED
 * when down. Thread: any. */
int rep_link_send(struct rep_link *l, struct lb_buf *frame, struct lb_err *err);
/* Two pieces sent as one frame without copying the second: header+prefix in @head, then @body.
 * Thread: any. */
int rep_link_send2(struct rep_link *l, struct lb_buf *head, struct lb_buf *body,
		   struct lb_err *err);
bool rep_link_was_up(const struct rep_link *l); /* loop's thread: on_up was called */
uint64_t rep_link_sent_bytes(struct rep_link *l);
/* Say why to the peer (ERROR frame) if possible, then close. on_down follows. */
void rep_link_close(struct rep_link *l, const struct lb_err *why);
void rep_link_destroy(struct rep_link *l); /* after on_down, or to drop it without one */

#endif
