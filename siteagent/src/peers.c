#include <jansson.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/fs.h"
#include "ident_priv.h"
#include "replicator/manifest.h"

/*
 * enrolled --[retire]--> retired --[add]--> enrolled
 *     |                     its key stays: what it signed is still verified
 *     +----[remove]--> forgotten (an enrolment that did not come to its end)
 */
#define PEERS_DIR   "ident/peers"
#define RETIRED_DIR "ident/retired"
#define PEERS_MAX   256u
#define FILE_BYTES  4096u

struct node {
	struct sa_peer peer;
	struct node *gone; /* next of the removed ones */
	bool retired;      /* removed, but what it signed counts */
};

struct sa_peers {
	struct lb_fs *fs;
	pthread_mutex_t lock;
	struct node *node[PEERS_MAX];
	size_t n;
	struct node *gone;
};

/* ---- one file ---- */

static int key_parse(struct lb_pubkey *out, const char *hex)
{
	struct lb_hash h; /* 32 bytes of hex, too */

	if (lb_hash_parse(&h, hex, NULL) != 0)
		return LB_EINPUT;
	memcpy(out->b, h.b, sizeof(out->b));
	return 0;
}

static int decode(struct sa_peer *out, const char *file, const uint8_t *text, size_t len,
		  struct lb_err *err)
{
	json_error_t why = {.line = 0};
	json_t *o = json_loadb((const char *)text, len, JSON_REJECT_DUPLICATES, &why);
	const char *name, *site, *key, *listen;
	struct sa_peer p = {.name = ""};
	int rc = 0;

	if (json_unpack_ex(o, &why, JSON_STRICT, "{s:s, s:s, s:s, s:s}", "name", &name, "site",
			   &site, "key", &key, "listen", &listen) != 0)
		rc = lb_err_set(err, LB_ECORRUPT, 0, "%s line %d: %s", file, why.line, why.text);
	else if (!rep_name_valid(name) || lb_id_parse(&p.site, site, NULL) != 0 ||
		 key_parse(&p.key, key) != 0 ||
		 (listen[0] != '\0' && sa_addr_parse(&p.addr, listen, NULL) != 0))
		rc = lb_err_set(err, LB_ECORRUPT, 0, "%s: a name, id, key or address that is none",
				file);
	if (rc == 0) {
		(void)snprintf(p.name, sizeof(p.name), "%s", name);
		*out = p;
	}
	json_decref(o);
	return rc;
}

#define FILE_NAME_BYTES (sizeof(RETIRED_DIR) + 48)

static void file_name(char out[FILE_NAME_BYTES], const char *dir, const struct lb_id *site)
{
	char hex[LB_ID_TEXT];

	(void)snprintf(out, FILE_NAME_BYTES, "%s/%s.json", dir, lb_id_text(site, hex));
}

static int write_peer(struct lb_fs *fs, const char *dir, const struct sa_peer *p,
		      struct lb_err *err)
{
	char file[FILE_NAME_BYTES], site[LB_ID_TEXT], key[LB_HASH_TEXT], addr[96] = "";
	struct lb_hash h;
	json_t *o;
	char *text;
	int rc;

	memcpy(h.b, p->key.b, sizeof(h.b));
	if (p->addr.port != 0)
		(void)sa_addr_text(&p->addr, addr, sizeof(addr));
	o = json_pack("{s:s, s:s, s:s, s:s}", "name", p->name, "site", lb_id_text(&p->site, site),
		      "key", lb_hash_text(&h, key), "listen", addr);
	text = o != NULL ? json_dumps(o, JSON_INDENT(1) | JSON_SORT_KEYS) : NULL;
	json_decref(o);
	if (text == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "record site %s", p->name);
	file_name(file, dir, &p->site);
	rc = lb_fs_replace(fs, file, text, strlen(text), err);
	free(text);
	return rc;
}

/* ---- the table ---- */

static struct node *find(struct sa_peers *p, const char *name, const struct lb_id *site)
{
	for (size_t i = 0; i < p->n; i++) {
		if ((name != NULL && strcmp(p->node[i]->peer.name, name) == 0) ||
		    (site != NULL && lb_id_equal(&p->node[i]->peer.site, site)))
			return p->node[i];
	}
	return NULL;
}

static int remove_file(struct lb_fs *fs, const char *dir, const struct lb_id *site,
		       struct lb_err *err)
{
	char file[FILE_NAME_BYTES];
	int rc;

	file_name(file, dir, site);
	rc = lb_fs_unlink(fs, file, err);
	return rc == 0 ? lb_fs_sync_dir(fs, dir, err) : rc;
}

static struct node *find_retired(struct sa_peers *p, const struct lb_id *site)
{
	struct node *n = p->gone;

	while (n != NULL && !(n->retired && lb_id_equal(&n->peer.site, site)))
		n = n->gone;
	return n;
}

/* It is enrolled again. A file that stays says no more than the one in peers/. */
static void unretire(struct sa_peers *p, const struct lb_id *site)
{
	struct node *n = find_retired(p, site);

	if (n == NULL)
		return;
	n->retired = false;
	(void)remove_file(p->fs, RETIRED_DIR, site, NULL);
}

static int insert(struct sa_peers *p, const struct sa_peer *peer, bool durable, struct lb_err *err)
{
	struct node *n;
	int rc = 0;

	if (find(p, peer->name, &peer->site) != NULL)
		return lb_err_set(err, LB_EEXIST, 0, "site %s is enrolled already", peer->name);
	if (p->n == PEERS_MAX)
		return lb_err_set(err, LB_EINPUT, 0, "enrol %s: at most %u sites", peer->name,
				  PEERS_MAX);
	n = calloc(1, sizeof(*n));
	if (n == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "enrol %s", peer->name);
	n->peer = *peer;
	if (durable)
		rc = write_peer(p->fs, PEERS_DIR, peer, err);
	if (rc != 0) {
		free(n);
		return rc;
	}
	p->node[p->n++] = n;
	if (durable)
		unretire(p, &peer->site);
	return 0;
}

static int insert_retired(struct sa_peers *p, const struct sa_peer *peer, struct lb_err *err)
{
	struct node *n = calloc(1, sizeof(*n));

	if (n == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "open %s", RETIRED_DIR);
	n->peer = *peer;
	n->retired = true;
	n->gone = p->gone;
	p->gone = n;
	return 0;
}

struct scan {
	struct sa_peers *peers;
	const char *dir;
	bool retired;
	struct lb_err *err;
};

static int on_name(void *arg, const char *name)
{
	struct scan *s = arg;
	char file[sizeof(RETIRED_DIR) + 257];
	struct sa_peer peer;
	uint8_t *text = NULL;
	size_t len = 0, n = strlen(name);
	int rc;

	if (n < 5 || strcmp(name + n - 5, ".json") != 0)
		return 0; /* what a crash left of a replace */
	(void)snprintf(file, sizeof(file), "%s/%s", s->dir, name);
	rc = lb_fs_read_all(s->peers->fs, file, FILE_BYTES, &text, &len, s->err);
	if (rc == 0)
		rc = decode(&peer, file, text, len, s->err);
	if (rc == 0)
		rc = s->retired ? insert_retired(s->peers, &peer, s->err)
				: insert(s->peers, &peer, false, s->err);
	free(text);
	return rc;
}

static int by_name(const void *a, const void *b)
{
	return strcmp((*(struct node *const *)a)->peer.name, (*(struct node *const *)b)->peer.name);
}

static int load(struct sa_peers *p, const char *dir, bool retired, struct lb_err *err)
{
	struct scan scan = {.peers = p, .dir = dir, .retired = retired, .err = err};
	int rc = lb_fs_mkdir(p->fs, dir, err);

	if (rc == 0)
		rc = lb_fs_sync_dir(p->fs, "ident", err);
	return rc == 0 ? lb_fs_list(p->fs, dir, on_name, &scan, err) : rc;
}

int sa_peers_open(struct sa_peers **out, struct lb_fs *fs, struct lb_err *err)
{
	struct sa_peers *p = calloc(1, sizeof(*p));
	int rc;

	if (p == NULL || pthread_mutex_init(&p->lock, NULL) != 0) {
		free(p);
		return lb_err_set(err, LB_ENOMEM, 0, "open %s", PEERS_DIR);
	}
	p->fs = fs;
	rc = load(p, PEERS_DIR, false, err);
	if (rc == 0)
		rc = load(p, RETIRED_DIR, true, err);
	if (rc != 0) {
		sa_peers_close(p);
		return rc;
	}
	qsort(p->node, p->n, sizeof(struct node *), by_name); /* readdir's order means nothing */
	*out = p;
	return 0;
}

void sa_peers_close(struct sa_peers *p)
{
	if (p == NULL)
		return;
	while (p->n > 0)
		free(p->node[--p->n]);
	while (p->gone != NULL) {
		struct node *next = p->gone->gone;

		free(p->gone);
		p->gone = next;
	}
	(void)pthread_mutex_destroy(&p->lock);
	free(p);
}

size_t sa_peers_count(struct sa_peers *p)
{
	size_t n;

	(void)pthread_mutex_lock(&p->lock);
	n = p->n;
	(void)pthread_mutex_unlock(&p->lock);
	return n;
}

const struct sa_peer *sa_peers_at(struct sa_peers *p, size_t i)
{
	const struct sa_peer *peer;

	(void)pthread_mutex_lock(&p->lock);
	peer = i < p->n ? &p->node[i]->peer : NULL;
	(void)pthread_mutex_unlock(&p->lock);
	return peer;
}

static const struct sa_peer *locked_find(struct sa_peers *p, const char *name,
					 const struct lb_id *site)
{
	const struct node *n;

	(void)pthread_mutex_lock(&p->lock);
	n = find(p, name, site);
	(void)pthread_mutex_unlock(&p->lock);
	return n != NULL ? &n->peer : NULL;
}

const struct sa_peer *sa_peers_by_name(struct sa_peers *p, const char *name)
{
	return locked_find(p, name, NULL);
}

const struct sa_peer *sa_peers_by_site(struct sa_peers *p, const struct lb_id *site)
{
	return locked_find(p, NULL, site);
}

int sa_peers_add(struct sa_peers *p, const struct sa_peer *peer, struct lb_err *err)
{
	int rc;

	if (!rep_name_valid(peer->name) || lb_id_is_zero(&peer->site))
		return lb_err_set(err, LB_EINVAL, 0, "enrol a site without name or id");
	(void)pthread_mutex_lock(&p->lock);
	rc = insert(p, peer, true, err);
	(void)pthread_mutex_unlock(&p->lock);
	return rc;
}

static int take_out(struct sa_peers *p, const char *name, bool retire, struct lb_err *err)
{
	struct node *n = find(p, name, NULL);
	int rc = 0;

	if (n == NULL)
		return lb_err_set(err, LB_ENOTFOUND, 0, "no site %.64s is enrolled", name);
	/* First the key is kept: between the two it is in both places and counts as enrolled. */
	if (retire)
		rc = write_peer(p->fs, RETIRED_DIR, &n->peer, err);
	if (rc == 0)
		rc = remove_file(p->fs, PEERS_DIR, &n->peer.site, err);
	for (size_t i = 0; rc == 0 && i < p->n; i++) {
		if (p->node[i] != n)
			continue;
		memmove(&p->node[i], &p->node[i + 1], (p->n - i - 1) * sizeof(struct node *));
		p->n--;
		n->retired = retire;
		n->gone = p->gone;
		p->gone = n;
		break;
	}
	return rc;
}

int sa_peers_remove(struct sa_peers *p, const char *name, struct lb_err *err)
{
	int rc;

	(void)pthread_mutex_lock(&p->lock);
	rc = take_out(p, name, false, err);
	(void)pthread_mutex_unlock(&p->lock);
	return rc;
}

int sa_peers_retire(struct sa_peers *p, const char *name, struct lb_err *err)
{
	int rc;

	(void)pthread_mutex_lock(&p->lock);
	rc = take_out(p, name, true, err);
	(void)pthread_mutex_unlock(&p->lock);
	return rc;
}

int sa_peers_key_of(struct sa_peers *p, const struct lb_id *site, struct lb_pubkey *out)
{
	const struct node *n;

	(void)pthread_mutex_lock(&p->lock);
	n = find(p, NULL, site);
	if (n == NULL)
		n = find_retired(p, site);
	if (n != NULL)
		*out = n->peer.key;
	(void)pthread_mutex_unlock(&p->lock);
	return n != NULL ? 0 : LB_ENOTFOUND;
}
