/*
 * siteagent/src/enrol_int.h - the two messages of enrolment, the token, and the TLS under them.
 *
 * One connection, TLS 1.3, the server authenticated by the hash in the token, the client by nothing
 * but the MAC. Each side sends one frame: u32 length (at most SA_ENROL_FRAME_MAX) and a body,
 * little-endian, strings as u16 length + bytes:
 *
 *   request  8 "LBENROL1" | str name | u16 n, n bytes CSR (DER) | 32 signing key
 *            | str host, u16 port (""/0: does not listen) | 32 MAC
 *   answer   8 "LBENROL2" | u8 0 | 16 deployment | 16 site | u16 n, CA (DER) | u16 n, certificate
 *            | 16 other's site | str other's name | 32 other's key | str host, u16 port
 *   refusal  8 "LBENROL2" | u8 1 | str reason
 *
 * MAC = HMAC-SHA-256(token, "lifeboat enrol v1" || the request before the MAC || exporter), where
 * exporter is 32 bytes of TLS keying material (RFC 8446 7.5) under SA_ENROL_EXPORTER: a request
 * cannot be moved to another connection. Both decoders are fed to a fuzzer.
 */
#ifndef SITEAGENT_ENROL_INT_H
#define SITEAGENT_ENROL_INT_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "ident_int.h"
#include "x509_int.h"

#define SA_ENROL_FRAME_MAX  16384u
#define SA_ENROL_LIMIT_NS   UINT64_C(10000000000) /* of a whole connection, either side */
#define SA_ENROL_EXPORTER   "EXPORTER-lifeboat-enrol-v1"
#define SA_EXPORTER_BYTES   32u
#define SA_TOKEN_TEXT_BYTES 224u

/* ---- token: "lifeboat-token-v1:<host>:<port>:<32 hex>:<64 hex>", IPv6 host in brackets ---- */
struct sa_token {
	struct sa_addr addr;
	struct lb_id secret; /* 128 random bits */
	struct lb_hash ca;   /* SHA-256 of the CA certificate's DER */
};
const char *sa_token_text(const struct sa_token *t, char *out, size_t out_bytes);
/* White space around it is allowed. The message never quotes it. Errors: LB_EINPUT. */
int sa_token_parse(struct sa_token *out, const char *text, struct lb_err *err);

/* ---- messages (pure) ---- */
struct sa_der {
	size_t len;
	uint8_t b[SA_DER_MAX];
};
struct sa_enrol_request {
	char name[SA_NAME_BYTES];
	struct sa_der csr;
	struct lb_pubkey key;
	struct sa_addr addr;
	struct lb_hash mac;
	size_t covered_bytes; /* of the body, by the MAC */
};
/* Encode with its MAC. Errors: LB_EINVAL (does not fit). */
int sa_enrol_request_encode(uint8_t *out, size_t cap, size_t *len, const struct sa_enrol_request *r,
			    const struct lb_id *secret, const uint8_t exporter[SA_EXPORTER_BYTES],
			    struct lb_err *err);
/* Names and addresses are checked, the CSR is bytes. Errors: LB_EPROTO. */
int sa_enrol_request_decode(struct sa_enrol_request *out, const uint8_t *p, size_t len,
			    struct lb_err *err);
/* Is the request's MAC over @body that of @secret? In constant time. */
bool sa_enrol_request_is_of(const struct sa_enrol_request *r, const uint8_t *body,
			    const struct lb_id *secret, const uint8_t exporter[SA_EXPORTER_BYTES]);

struct sa_enrol_answer {
	char refusal[160]; /* "": accepted */
	struct lb_id deployment, site;
	struct sa_der ca, cert;
	struct sa_peer other;
};
int sa_enrol_answer_encode(uint8_t *out, size_t cap, size_t *len, const struct sa_enrol_answer *a,
			   struct lb_err *err);
int sa_enrol_answer_decode(struct sa_enrol_answer *out, const uint8_t *p, size_t len,
			   struct lb_err *err);

/* ---- TLS with one limit over everything. Thread: one. SIGPIPE is ignored by the process. ---- */
struct sa_pipe {
	SSL *ssl;
	int fd; /* non-blocking */
	struct lb_env *env;
	uint64_t deadline_ns; /* of env->now_ns() */
};
/* TLS 1.3 only, Ed25519, X25519 or P-256, no tickets, no early data. Server: @cert, @key, @ca are
 * presented. Client: all NULL, the caller sets its verification. Errors: LB_EUNSUPPORTED. */
int sa_enrol_tls_ctx(SSL_CTX **out, X509 *cert, EVP_PKEY *key, X509 *ca, struct lb_err *err);
/* Takes @fd on success; handshake included. @what names the other side in messages. */
int sa_pipe_open(struct sa_pipe *p, SSL_CTX *ctx, bool server, int fd, struct lb_env *env,
		 struct lb_err *err);
void sa_pipe_close(struct sa_pipe *p); /* ssl NULL is allowed */
int sa_pipe_exporter(struct sa_pipe *p, uint8_t out[SA_EXPORTER_BYTES], struct lb_err *err);
int sa_pipe_send(struct sa_pipe *p, const uint8_t *body, size_t len, struct lb_err *err);
/* At most @cap bytes. Errors: LB_ETIMEDOUT, LB_ECLOSED, LB_EPROTO. */
int sa_pipe_recv(struct sa_pipe *p, uint8_t *body, size_t cap, size_t *len, struct lb_err *err);
/* 0 when @a holds no numeric address. */
socklen_t sa_addr_sockaddr(struct sockaddr_storage *out, const struct sa_addr *a);
/* Wait until @fd is ready for @events (poll.h). LB_ETIMEDOUT at @deadline_ns. */
int sa_wait_fd(int fd, short events, struct lb_env *env, uint64_t deadline_ns, struct lb_err *err);

#endif
