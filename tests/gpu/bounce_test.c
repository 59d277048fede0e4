/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The emulator's bounce buffer: ciphertext only, and every change of it is reported.
 */
#include "fixture.h"

/* ---- the emulator's bounce buffer ---- */

static const char secret[] = "plaintext must not cross unsealed";

/* What the probe does with a sealed chunk, and what it saw. */
struct spy {
	const uint8_t *bounce;
	size_t bounce_bytes;
	unsigned seen, plain; /* chunks; chunks while the secret lay in the bounce buffer */
	uint8_t first[EMU_SLOTS + 4][16]; /* how the first chunks began */
	int flip_chunk;			  /* -1: none */
	size_t flip_offset;		  /* EMU_CHUNK_BYTES and above: in the tag */
	bool replay;			  /* put chunk 0 again in place of chunk 1 */
	struct emu_slot old;
};

static void spy_sealed(void *arg, enum cvb_gpu_dir dir, struct emu_slot *slot, size_t bytes)
{
	struct spy *s = arg;

	(void)dir;
	(void)bytes;
	if (s->bounce_bytes && memmem(s->bounce, s->bounce_bytes, secret, sizeof(secret) - 1))
		s->plain++;
	if (s->seen < CVB_ARRAY_LEN(s->first))
		memcpy(s->first[s->seen], slot->data, sizeof(s->first[0]));
	if (s->flip_chunk == (int)s->seen) {
		if (s->flip_offset < EMU_CHUNK_BYTES)
			slot->data[s->flip_offset] ^= 1;
		else
			slot->tag[0][s->flip_offset - EMU_CHUNK_BYTES] ^= 1;
	}
	if (s->replay && s->seen == 0)
		s->old = *slot;
	if (s->replay && s->seen == 1)
		*slot = s->old;
	s->seen++;
}

struct spied {
	struct fixture *f;
	struct spy *spy;
	struct cvb_gpu_buf *host, *device;
	size_t bytes;
};

/* `chunks` whole chunks and a few bytes more, all of them the secret. */
static struct spied spied_setup(struct fixture *f, enum cvb_gpu_dir dir, enum cvb_gpu_mem kind,
				size_t chunks)
{
	struct spied s = {.f = f, .bytes = chunks * CHUNK + 100};

	s.host = alloc(f, kind, s.bytes);
	s.device = alloc(f, CVB_GPU_DEVICE, s.bytes);
	char *p = cvb_gpu_buf_host(s.host);

	for (size_t i = 0; i < s.bytes; i++)
		p[i] = secret[i % CHUNK % (sizeof(secret) - 1)];
	copy(f, s.device, 0, s.host, 0, s.bytes);
	s.spy = calloc(1, sizeof(*s.spy));
	assert_non_null(s.spy);
	s.spy->flip_chunk = -1;
	s.spy->bounce = emu_bounce(f->gpu, dir, &s.spy->bounce_bytes);
	assert_non_null(s.spy->bounce);
	emu_set_probe(f->gpu, &(struct emu_probe){.sealed = spy_sealed, .arg = s.spy});
	return s;
}

static int spied_copy(struct spied *s, enum cvb_gpu_dir dir)
{
	bool in = dir == CVB_GPU_H2D;

	s->spy->seen = 0;
	cvb_err_clear(&s->f->err);
	return cvb_gpu_copy_async(s->f->stream, in ? s->device : s->host, 0,
				  in ? s->host : s->device, 0, s->bytes, &s->f->err);
}

static void spied_done(struct spied *s)
{
	emu_set_probe(s->f->gpu, NULL);
	cvb_gpu_free(s->host);
	cvb_gpu_free(s->device);
	free(s->spy);
}

static void test_bounce_holds_ciphertext_only(void **state)
{
	struct fixture *f = *state;
	const enum cvb_gpu_mem kinds[] = {CVB_GPU_HOST_PINNED, CVB_GPU_HOST_PAGEABLE};

	for (size_t i = 0; i < 4; i++) {
		enum cvb_gpu_dir dir = i % 2 ? CVB_GPU_D2H : CVB_GPU_H2D;
		struct spied s = spied_setup(f, dir, kinds[i / 2], EMU_SLOTS + 3);

		assert_int_equal(spied_copy(&s, dir), 0);
		assert_int_equal(s.spy->seen, EMU_SLOTS + 4);
		assert_int_equal(s.spy->plain, 0);
		/* the same plaintext never gives the same ciphertext: each chunk has its own IV */
		for (size_t a = 0; a < s.spy->seen; a++)
			for (size_t b = 0; b < a; b++)
				assert_memory_not_equal(s.spy->first[a], s.spy->first[b], 16);
		/* nor in the next copy, which begins where this one ended */
		uint8_t before[16];

		memcpy(before, s.spy->first[0], sizeof(before));
		assert_int_equal(spied_copy(&s, dir), 0);
		assert_memory_not_equal(before, s.spy->first[0], sizeof(before));
		spied_done(&s);
	}
}

static void assert_tag_error(struct spied *s, int r)
{
	char text[512];

	assert_int_equal(r, -EBADMSG);
	cvb_err_text(&s->f->err, text, sizeof(text));
	assert_non_null(strstr(text, "tag check failed"));
}

static void test_changed_ciphertext_is_reported(void **state)
{
	struct fixture *f = *state;
	static const struct {
		int chunk;
		size_t offset;
	} flips[] = {{0, 0}, {1, 4097}, {2, CHUNK - 1}, {0, CHUNK}, {2, CHUNK + 15}, {3, 99}};

	for (int dir = CVB_GPU_H2D; dir <= CVB_GPU_D2H; dir++) {
		struct spied s = spied_setup(f, (enum cvb_gpu_dir)dir, CVB_GPU_HOST_PINNED, 3);
		_cleanup_free_ char *sent = malloc(s.bytes);
		char *p = cvb_gpu_buf_host(s.host);

		assert_non_null(sent);
		memcpy(sent, p, s.bytes);
		for (size_t i = 0; i < CVB_ARRAY_LEN(flips); i++) {
			s.spy->flip_chunk = flips[i].chunk;
			s.spy->flip_offset = flips[i].offset;
			assert_tag_error(&s, spied_copy(&s, (enum cvb_gpu_dir)dir));
			size_t bad = (size_t)flips[i].chunk * CHUNK;

			/* what failed its check is not handed on */
			if (dir == CVB_GPU_D2H)
				assert_true(all_bytes((uint8_t *)p + bad,
						      cvb_min(CHUNK, s.bytes - bad), 0));
			/* one bad copy does not spoil the next */
			s.spy->flip_chunk = -1;
			assert_int_equal(spied_copy(&s, (enum cvb_gpu_dir)dir), 0);
			sync_stream(f);
			assert_memory_equal(p, sent, s.bytes);
		}
		spied_done(&s);
	}
}

static void test_replayed_chunk_is_reported(void **state)
{
	struct fixture *f = *state;

	for (int dir = CVB_GPU_H2D; dir <= CVB_GPU_D2H; dir++) {
		struct spied s = spied_setup(f, (enum cvb_gpu_dir)dir, CVB_GPU_HOST_PAGEABLE, 3);

		s.spy->replay = true;
		assert_tag_error(&s, spied_copy(&s, (enum cvb_gpu_dir)dir));
		spied_done(&s);
	}
}

/* ---- the other ways across: pages, peers, submissions ---- */

static void test_managed_pages_are_sealed(void **state)
{
	struct fixture *f = *state;
	const size_t bytes = 2 * CHUNK;
	struct spied s = {.f = f};
	struct cvb_gpu_buf *m = alloc(f, CVB_GPU_MANAGED, bytes);
	const struct cvb_gpu_launch fill_it = {
		.kernel = CVB_GPU_KERNEL_FILL, .a = m, .bytes = bytes, .seed = 1};
	char *p = cvb_gpu_buf_host(m);

	s.spy = calloc(1, sizeof(*s.spy));
	assert_non_null(s.spy);
	s.spy->bounce = emu_bounce(f->gpu, CVB_GPU_H2D, &s.spy->bounce_bytes);
	s.spy->flip_chunk = -1;
	emu_set_probe(f->gpu, &(struct emu_probe){.sealed = spy_sealed, .arg = s.spy});
	for (size_t i = 0; i < bytes; i++)
		p[i] = secret[i % EMU_PAGE_BYTES % (sizeof(secret) - 1)];
	assert_int_equal(cvb_gpu_launch_async(f->stream, &fill_it, &f->err), 0);
	sync_stream(f);
	assert_int_equal(s.spy->seen, 2);
	assert_int_equal(s.spy->plain, 0);
	/* a page on the way back, and the second page on the way there */
	s.spy->flip_chunk = (int)s.spy->seen;
	s.spy->flip_offset = EMU_PAGE_BYTES + 5;
	assert_int_equal(cvb_gpu_managed_touch(m, 0, bytes, &f->err), -EBADMSG);
	assert_int_equal(cvb_gpu_managed_touch(m, 0, bytes, &f->err), 0);
	s.spy->flip_chunk = (int)s.spy->seen;
	assert_int_equal(cvb_gpu_launch_async(f->stream, &fill_it, &f->err), 0);
	assert_tag_error(&s, cvb_gpu_sync(f->stream, &f->err));
	/* an error is told once, and the work after it runs */
	assert_int_equal(cvb_gpu_launch_async(f->stream, &fill_it, &f->err), 0);
	sync_stream(f);
	assert_int_equal(cvb_gpu_managed_touch(m, 0, bytes, &f->err), 0);
	assert_int_equal(*(uint64_t *)(void *)p, cvb_gpu_pattern(1, 0));
	emu_set_probe(f->gpu, NULL);
	free(s.spy);
}

static void test_peer_link_is_sealed(void **state)
{
	struct fixture *f = *state;
	struct cvb_gpu *peer = NULL;
	struct cvb_gpu_buf *theirs = NULL, *ours = alloc(f, CVB_GPU_DEVICE, CHUNK);
	struct spied s = {.f = f};

	assert_int_equal(cvb_gpu_peer_open(f->gpu, &peer, &f->err), 0);
	assert_int_equal(cvb_gpu_alloc(peer, CVB_GPU_DEVICE, CHUNK, &theirs, &f->err), 0);
	s.spy = calloc(1, sizeof(*s.spy));
	assert_non_null(s.spy);
	s.spy->flip_offset = 17;
	emu_set_probe(f->gpu, &(struct emu_probe){.sealed = spy_sealed, .arg = s.spy});
	assert_int_equal(cvb_gpu_peer_copy_async(f->stream, theirs, 0, ours, 0, CHUNK, &f->err), 0);
	assert_tag_error(&s, cvb_gpu_sync(f->stream, &f->err));
	assert_int_equal(s.spy->seen, 1);
	assert_int_equal(cvb_gpu_peer_copy_async(f->stream, theirs, 0, ours, 0, CHUNK, &f->err), 0);
	sync_stream(f);
	emu_set_probe(f->gpu, NULL);
	free(s.spy);
}

/* What a probe did with submissions. */
struct tap {
	unsigned seen, plain; /* those in which 16 bytes of what was sealed lay open */
	int flip;	      /* the number of the one to change, -1: none */
	size_t offset;	      /* EMU_DESCRIPTOR_BYTES and above: in the tag */
	uint8_t last[16];
	bool repeated; /* two began alike */
};

static void tap_submitted(void *arg, struct emu_descriptor *d, const uint8_t *plain)
{
	struct tap *t = arg;

	if (memmem(d, sizeof(*d), plain, 16))
		t->plain++;
	if (!memcmp(t->last, d->data, sizeof(t->last)))
		t->repeated = true;
	memcpy(t->last, d->data, sizeof(t->last));
	if (t->flip == (int)t->seen++) {
		if (t->offset < EMU_DESCRIPTOR_BYTES)
			d->data[t->offset] ^= 0x40;
		else
			d->tag[t->offset - EMU_DESCRIPTOR_BYTES] ^= 0x40;
	}
}

static void test_submissions_are_sealed(void **state)
{
	static const size_t offsets[] = {0, 100, EMU_DESCRIPTOR_BYTES - 1, EMU_DESCRIPTOR_BYTES,
					 EMU_DESCRIPTOR_BYTES + 15};
	struct fixture *f = *state;
	struct tap t = {.flip = -1};
	struct spied s = {.f = f};
	struct cvb_gpu_buf *a = alloc(f, CVB_GPU_DEVICE, 64),
			   *host = alloc(f, CVB_GPU_HOST_PINNED, 64);
	struct cvb_gpu_event *event;

	assert_int_equal(cvb_gpu_event_new(f->gpu, &event, &f->err), 0);
	emu_set_probe(f->gpu, &(struct emu_probe){.submitted = tap_submitted, .arg = &t});
	for (int i = 0; i < 100; i++)
		assert_int_equal(cvb_gpu_memset_async(f->stream, a, 0, 5, 64, &f->err), 0);
	sync_stream(f);
	assert_int_equal(t.seen, 100);
	assert_int_equal(t.plain, 0);
	assert_false(t.repeated);
	for (size_t i = 0; i < CVB_ARRAY_LEN(offsets); i++) {
		t.offset = offsets[i];
		t.flip = (int)t.seen;
		assert_int_equal(cvb_gpu_memset_async(f->stream, a, 0, 6, 64, &f->err), 0);
		assert_tag_error(&s, cvb_gpu_sync(f->stream, &f->err));
		/* it did not run, and what comes after it does */
		copy(f, host, 0, a, 0, 64);
		sync_stream(f);
		assert_true(all_bytes(cvb_gpu_buf_host(host), 64, 5));
	}
	/* whoever waits for an event is not left waiting */
	t.flip = (int)t.seen;
	assert_int_equal(cvb_gpu_event_record(event, f->stream, &f->err), 0);
	assert_int_equal(cvb_gpu_event_sync(event, &f->err), 0);
	assert_tag_error(&s, cvb_gpu_sync(f->stream, &f->err));
	emu_set_probe(f->gpu, NULL);
}

static void test_no_bounce_without_cc(void **state)
{
	struct fixture *f = *state;
	size_t bytes;

	assert_null(emu_bounce(f->gpu, CVB_GPU_H2D, &bytes));
	assert_null(emu_bounce(f->gpu, CVB_GPU_D2H, &bytes));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON(test_bounce_holds_ciphertext_only, CC),
		ON(test_changed_ciphertext_is_reported, CC),
		ON(test_replayed_chunk_is_reported, CC),
		ON(test_managed_pages_are_sealed, CC),
		ON(test_peer_link_is_sealed, CC),
		ON(test_submissions_are_sealed, CC),
		ON(test_no_bounce_without_cc, NO_CC),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
