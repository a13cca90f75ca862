/* A micro-batch's images -> what the model sees of them, without Python: called through ctypes, which
   releases the GIL. library.py beside this declares the functions, reader.py calls them.

   All arithmetic on pixels is in integers, so that it gives the same bits with and without SIMD, on
   any number of threads; tests/input/native/reference.py has it in NumPy. Every image has PAD bytes
   behind it that may be read. */

#include <pthread.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>
#include <jerror.h>
#include <png.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { PAD = 16 };      /* bytes behind every row that a SIMD load or store may touch */
enum { ONE = 2048 };    /* a weight of 1 */
enum { MESSAGE = 200 }; /* bytes of a reason; libjpeg's JMSG_LENGTH_MAX */

/* ---- Resizing ---- */

/* Memory that a thread uses for one image after the other. */
typedef struct {
  uint8_t *memory;
  size_t size;
} Room;

static void *room(Room *room, size_t size) {
  if (size > room->size) {
    free(room->memory);
    room->memory = malloc(size);
    room->size = room->memory ? size : 0;
  }
  return room->memory;
}

/* Which pixels along one side make each pixel of the result, and with which weights. */
typedef struct {
  int most; /* weights of each, an even number; unused ones are 0 */
  int32_t *first, *count;
  int16_t *weights;
} Taps;

/* The triangle of linear interpolation around each centre; with antialiasing as wide as the scale.

   In units of 1 / (2 out) pixels the centre of result o is (2 o + 1) in, and that of pixel i is
   (2 i + 1) out. Weights are rounded so that they sum to ONE. */
static int fill_taps(Taps *taps, Room *memory, int64_t in, int64_t out, int antialias, int mirrored) {
  int64_t reach = 2 * (antialias && in > out ? in : out);
  taps->most = (int)(((reach + out - 1) / out + 1) & ~1);
  size_t size = (size_t)out;
  taps->first = room(memory, size * (2 * sizeof(int32_t) + (size_t)taps->most * sizeof(int16_t)));
  if (!taps->first) return 0;
  taps->count = taps->first + size;
  taps->weights = (int16_t *)(taps->count + size);
  for (int64_t o = 0; o < out; o++) {
    int64_t place = mirrored ? out - 1 - o : o, centre = (2 * o + 1) * in, first, sum = 0, before = 0;
    int16_t *weights = taps->weights + place * taps->most;
    first = (centre - reach) / (2 * out) - 1;
    if (first < 0) first = 0;
    while (reach - llabs((2 * first + 1) * out - centre) <= 0) first++;
    int count = 0;
    for (int64_t i = first; i < in; i++, count++) {
      int64_t weight = reach - llabs((2 * i + 1) * out - centre);
      if (weight <= 0) break;
      sum += weight;
    }
    memset(weights, 0, (size_t)taps->most * sizeof(int16_t));
    /* Near the end it begins earlier, with weights of 0, so that `most` pixels are there. */
    int unused = (int)(first + taps->most > in ? first - (in > taps->most ? in - taps->most : 0) : 0);
    for (int k = 0; k < count; k++) {
      int64_t until = before + reach - llabs((2 * (first + k) + 1) * out - centre);
      weights[unused + k] = (int16_t)(ONE * until / sum - ONE * before / sum);
      before = until;
    }
    taps->first[place] = (int32_t)first - unused, taps->count[place] = count + unused;
  }
  return 1;
}

/* A row of pixels -> 128 times each of the result's values from `o` on: at most 255 * ONE >> 4 =
   32640. */
static void across_plain(const uint8_t *row, const Taps *taps, int o, int out, int16_t *to) {
  for (; o < out; o++) {
    const int16_t *weights = taps->weights + (ptrdiff_t)o * taps->most;
    const uint8_t *pixel = row + 3 * (size_t)taps->first[o];
    for (int channel = 0; channel < 3; channel++) {
      int32_t sum = 8;
      for (int k = 0; k < taps->count[o]; k++) sum += pixel[3 * k + channel] * weights[k];
      to[3 * o + channel] = (int16_t)(sum >> 4);
    }
  }
}

/* Rows of `across` -> a row of the result, from `at` on. count: even. */
static void down_plain(const int16_t *const *rows, const int16_t *weights, int count, int at, int n,
                       uint8_t *to) {
  for (; at < n; at++) {
    int32_t sum = 1 << 17;
    for (int k = 0; k < count; k++) sum += rows[k][at] * weights[k];
    to[at] = (uint8_t)(sum >> 18);
  }
}

#if defined(__x86_64__)
#define AVX2 static inline __attribute__((always_inline, target("avx2")))

AVX2 __m256i both_weights(const int16_t *left, const int16_t *right) {
  int32_t lefts, rights; /* two weights each */
  memcpy(&lefts, left, 4), memcpy(&rights, right, 4);
  return _mm256_inserti128_si256(_mm256_set1_epi32(lefts), _mm_set1_epi32(rights), 1);
}

/* Two results at once, with `pairs` pairs of pixels each: a constant where it is inlined. What the
   last pair reads behind the row has weight 0. */
AVX2 void across_pairs(const uint8_t *row, const Taps *taps, int pairs, int out, int16_t *to) {
  /* Two pixels, rgbrgb, -> words r r g g b b. */
  const __m128i lane = _mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1);
  const __m256i order = _mm256_broadcastsi128_si256(lane);
  for (int o = 0; o + 2 <= out; o += 2, to += 6) {
    const uint8_t *left = row + 3 * (size_t)taps->first[o];
    const uint8_t *right = row + 3 * (size_t)taps->first[o + 1];
    const int16_t *weights = taps->weights + (ptrdiff_t)o * taps->most;
    __m256i sum = _mm256_set1_epi32(8);
    for (int k = 0; k < pairs; k++, left += 6, right += 6, weights += 2) {
      __m128i low = _mm_loadl_epi64((const __m128i *)left);
      __m128i high = _mm_loadl_epi64((const __m128i *)right);
      __m256i pixels = _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
      __m256i weighted = both_weights(weights, weights + taps->most);
      sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_shuffle_epi8(pixels, order), weighted));
    }
    sum = _mm256_srai_epi32(sum, 4);
    sum = _mm256_packs_epi32(sum, sum);
    /* Four words each: the next result covers the fourth. */
    _mm_storel_epi64((__m128i *)to, _mm256_castsi256_si128(sum));
    _mm_storel_epi64((__m128i *)(to + 3), _mm256_extracti128_si256(sum, 1));
  }
}

/* 16 results at once. */
AVX2 void down_pairs(const int16_t *const *rows, const int16_t *weights, int count, int n,
                     uint8_t *to) {
  for (int at = 0; at + 16 <= n; at += 16) {
    __m256i low = _mm256_set1_epi32(1 << 17), high = low;
    for (int k = 0; k < count; k += 2) {
      int32_t both;
      memcpy(&both, weights + k, 4);
      __m256i pair = _mm256_set1_epi32(both);
      __m256i a = _mm256_loadu_si256((const __m256i *)(rows[k] + at));
      __m256i b = _mm256_loadu_si256((const __m256i *)(rows[k + 1] + at));
      low = _mm256_add_epi32(low, _mm256_madd_epi16(_mm256_unpacklo_epi16(a, b), pair));
      high = _mm256_add_epi32(high, _mm256_madd_epi16(_mm256_unpackhi_epi16(a, b), pair));
    }
    __m256i words = _mm256_packs_epi32(_mm256_srai_epi32(low, 18), _mm256_srai_epi32(high, 18));
    __m256i bytes = _mm256_permute4x64_epi64(_mm256_packus_epi16(words, words), 0x08);
    _mm_storeu_si128((__m128i *)(to + at), _mm256_castsi256_si128(bytes));
  }
}

/* Enlarging takes one pair, shrinking to no less than half two. */
__attribute__((target("avx2"))) static void across_simd(const uint8_t *row, const Taps *taps, int out,
                                                        int16_t *to) {
  if (taps->most == 2)
    across_pairs(row, taps, 1, out, to);
  else if (taps->most == 4)
    across_pairs(row, taps, 2, out, to);
  else
    across_pairs(row, taps, taps->most / 2, out, to);
}

__attribute__((target("avx2"))) static void down_simd(const int16_t *const *rows,
                                                      const int16_t *weights, int count, int n,
                                                      uint8_t *to) {
  if (count == 2)
    down_pairs(rows, weights, 2, n, to);
  else
    down_pairs(rows, weights, count, n, to);
}
#endif

static void across(const uint8_t *row, const Taps *taps, int out, int16_t *to, int simd) {
  int done = 0;
#if defined(__x86_64__)
  if (simd) across_simd(row, taps, out, to), done = out & ~1;
#endif
  (void)simd;
  across_plain(row, taps, done, out, to);
}

static void down(const int16_t *const *rows, const int16_t *weights, int count, int n, uint8_t *to,
                 int simd) {
  int done = 0;
#if defined(__x86_64__)
  if (simd) down_simd(rows, weights, count, n, to), done = n & ~15;
#endif
  (void)simd;
  down_plain(rows, weights, count, done, n, to);
}

/* What a call is asked for; the same fields, in this order, in library.py. */
typedef struct {
  int64_t n;
  const uint64_t *image_at;
  const int64_t *image_bytes; /* 0: no image; its view is black */
  const int32_t *extents;  /* [n, 2]: height and width, as records() found them */
  const int32_t *windows;  /* [n, 5]: top, left, height, width, whether it is mirrored */
  int32_t raw_channels;    /* 0: files */
  int32_t size, antialias, simd, threads;
  uint8_t *views;          /* [n, size, size, 3] */
  char *messages;          /* [n, MESSAGE]: why an image cannot be decoded; empty */
  int64_t next;            /* the image that no thread has taken yet */
} Call;

/* A thread, and its memory. */
typedef struct {
  const Call *call;
  Room columns, rows, kept, row, pixels;
} Worker;

/* Where the rows of a window come from: all of them, in order. */
typedef const uint8_t *(*NextRow)(void *source, int y);

/* A window's rows -> uint8[size, size, 3]. */
static int resize(Worker *worker, const int32_t *window, NextRow next_row, void *source, uint8_t *to) {
  const Call *call = worker->call;
  int size = call->size, length = 3 * size, next = 0;
  Taps columns, rows;
  if (!fill_taps(&columns, &worker->columns, window[3], size, call->antialias, window[4]) ||
      !fill_taps(&rows, &worker->rows, window[2], size, call->antialias, 0))
    return 0;
  /* Where there are fewer pixels than weights, SIMD reads behind them: no more than PAD. */
  int simd = call->simd && 3 * (columns.most - window[3]) + 2 <= PAD;
  size_t most = (size_t)rows.most;
  size_t stride = (size_t)length + PAD;
  /* The last `most` rows of `across`, in a ring; and those of one result, in their order. */
  const int16_t **used = room(&worker->kept, most * (stride * sizeof(int16_t) + sizeof(void *)));
  if (!used) return 0;
  int16_t *ring = (int16_t *)(used + most);
  for (int o = 0; o < size; o++, to += length) {
    int first = rows.first[o], count = rows.count[o];
    for (; next < first + count; next++) {
      const uint8_t *row = next_row(source, next);
      if (next >= first) across(row, &columns, size, ring + (size_t)next % most * stride, simd);
    }
    for (int k = 0; k < count; k++) used[k] = ring + (size_t)(first + k) % most * stride;
    if (count & 1) used[count] = used[0], count++; /* with weight 0 */
    down(used, rows.weights + (size_t)o * most, count, length, to, call->simd);
  }
  return 1;
}

/* Pixels in memory, grey or coloured. */
typedef struct {
  const uint8_t *window; /* its first pixel */
  size_t stride;
  int grey_columns; /* 0: coloured */
  uint8_t *row;
} Pixels;

static const uint8_t *pixel_row(void *source, int y) {
  Pixels *pixels = source;
  const uint8_t *from = pixels->window + (size_t)y * pixels->stride;
  if (!pixels->grey_columns) return from;
  for (int x = 0; x < pixels->grey_columns; x++) memset(pixels->row + 3 * x, from[x], 3);
  return pixels->row;
}

static int resize_pixels(Worker *worker, const uint8_t *pixels, int columns, int channels,
                         const int32_t *window, uint8_t *to) {
  size_t stride = (size_t)columns * (size_t)channels;
  Pixels source = {
      pixels + (size_t)window[0] * stride + (size_t)window[1] * (size_t)channels,
      stride,
      channels == 1 ? window[3] : 0,
      room(&worker->row, 3 * (size_t)window[3] + PAD),
  };
  return source.row && resize(worker, window, pixel_row, &source, to);
}

/* ---- JPEG ---- */

typedef struct {
  struct jpeg_decompress_struct info;
  struct jpeg_error_mgr errors;
  jmp_buf failed;
  char *message;
  uint8_t *row, *window;
  int inks;
} Jpeg;

static void jpeg_failed(j_common_ptr info) {
  Jpeg *jpeg = info->client_data;
  info->err->format_message(info, jpeg->message);
  longjmp(jpeg->failed, 1);
}

static void jpeg_quiet(j_common_ptr info, int level) {
  /* The source has put an end where there was none: what is missing would be grey. */
  if (level < 0 && info->err->msg_code == JWRN_JPEG_EOF) jpeg_failed(info);
}

static const uint8_t *jpeg_row(void *source, int y) {
  Jpeg *jpeg = source;
  (void)y; /* all of them come, in order */
  JSAMPROW row = jpeg->row;
  jpeg_read_scanlines(&jpeg->info, &row, 1);
  if (jpeg->inks) { /* as TensorFlow (jpeg_mem.cc); Adobe's are inverted */
    int columns = (int)jpeg->info.output_width, inverted = jpeg->info.saw_Adobe_marker;
    for (int x = 0; x < columns; x++) {
      const uint8_t *ink = row + 4 * x;
      int k = inverted ? ink[3] : 255 - ink[3];
      for (int c = 0; c < 3; c++) {
        int value = inverted ? ink[c] : 255 - ink[c];
        row[3 * x + c] = (uint8_t)(k * value / 255);
      }
    }
  }
  return jpeg->window;
}

static int view_jpeg(Worker *worker, const uint8_t *file, int64_t bytes, const int32_t *extent,
                     const int32_t *window, uint8_t *to, char *message) {
  Jpeg jpeg;
  memset(&jpeg, 0, sizeof jpeg);
  jpeg.message = message;
  jpeg.info.err = jpeg_std_error(&jpeg.errors);
  jpeg.info.client_data = &jpeg;
  jpeg.errors.error_exit = jpeg_failed;
  jpeg.errors.emit_message = jpeg_quiet;
  if (setjmp(jpeg.failed)) {
    jpeg_destroy_decompress(&jpeg.info);
    return message[0] != 0; /* else there was no memory */
  }
  jpeg_create_decompress(&jpeg.info);
  jpeg_mem_src(&jpeg.info, file, (unsigned long)bytes);
  jpeg_read_header(&jpeg.info, TRUE);
  if ((int64_t)jpeg.info.image_height != extent[0] || (int64_t)jpeg.info.image_width != extent[1]) {
    snprintf(message, MESSAGE, "its header has two sizes");
    longjmp(jpeg.failed, 1);
  }
  jpeg.inks = jpeg.info.num_components == 4;
  jpeg.info.out_color_space = jpeg.inks ? JCS_CMYK : JCS_RGB;
  jpeg.info.dct_method = JDCT_ISLOW;
  size_t channels = jpeg.inks ? 4 : 3;
  jpeg.row = room(&worker->row, channels * (size_t)extent[1] + PAD + 1);
  if (!jpeg.row) longjmp(jpeg.failed, 1);
  /* Where a row is aligned, libjpeg-turbo writes it past the caches (movntdq), and reading it back
     takes a third of an image's time. */
  jpeg.row++;
  jpeg_start_decompress(&jpeg.info);
  /* Starts at a block, so that what is left of the window is decoded with it. */
  JDIMENSION left = (JDIMENSION)window[1], width = (JDIMENSION)window[3];
  jpeg_crop_scanline(&jpeg.info, &left, &width);
  jpeg.window = jpeg.row + 3 * ((size_t)window[1] - left);
  if (window[0]) jpeg_skip_scanlines(&jpeg.info, (JDIMENSION)window[0]);
  int done = resize(worker, window, jpeg_row, &jpeg, to);
  jpeg_destroy_decompress(&jpeg.info);
  return done;
}

/* ---- PNG ---- */

typedef struct {
  const uint8_t *at, *end;
  char *message;
} Png;

static void png_failed(png_structp png, png_const_charp why) {
  Png *own = png_get_error_ptr(png);
  snprintf(own->message, MESSAGE, "%s", why);
  png_longjmp(png, 1);
}

static void png_quiet(png_structp png, png_const_charp why) { (void)png, (void)why; }

static void png_bytes(png_structp png, png_bytep to, size_t n) {
  Png *own = png_get_io_ptr(png);
  if (n > (size_t)(own->end - own->at)) png_error(png, "the file ends early");
  memcpy(to, own->at, n);
  own->at += n;
}

static int view_png(Worker *worker, const uint8_t *file, int64_t bytes, const int32_t *extent,
                    const int32_t *window, uint8_t *to, char *message) {
  Png own = {file, file + bytes, message};
  size_t stride = 3 * (size_t)extent[1];
  uint8_t *const pixels = room(&worker->pixels, stride * (size_t)extent[0] + PAD);
  png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &own, png_failed, png_quiet);
  png_infop info = png ? png_create_info_struct(png) : NULL;
  if (!pixels || !info || setjmp(png_jmpbuf(png))) {
    png_destroy_read_struct(&png, &info, NULL);
    return message[0] != 0;
  }
  png_set_read_fn(png, &own, png_bytes);
  png_read_info(png, info);
  if (png_get_image_height(png, info) != (png_uint_32)extent[0] ||
      png_get_image_width(png, info) != (png_uint_32)extent[1])
    png_error(png, "its header has two sizes");
  png_set_expand(png); /* palettes, fewer than 8 bits, and transparent colours to alpha */
  png_set_strip_16(png);
  png_set_strip_alpha(png);
  png_set_gray_to_rgb(png);
  int passes = png_set_interlace_handling(png);
  png_read_update_info(png, info);
  if (png_get_rowbytes(png, info) != stride) png_error(png, "its pixels are of an unknown kind");
  while (passes--)
    for (int32_t y = 0; y < extent[0]; y++) png_read_row(png, pixels + (size_t)y * stride, NULL);
  png_destroy_read_struct(&png, &info, NULL);
  return resize_pixels(worker, pixels, extent[1], 3, window, to);
}

/* ---- A micro-batch ---- */

static int inside(const int32_t *window, const int32_t *extent) {
  return window[0] >= 0 && window[1] >= 0 && window[2] > 0 && window[3] > 0 &&
         window[2] <= extent[0] - window[0] && window[3] <= extent[1] - window[1];
}

static void *work(void *argument) {
  Worker worker = {.call = argument};
  Call *call = argument;
  size_t bytes = 3 * (size_t)call->size * (size_t)call->size;
  int64_t i;
  while ((i = __atomic_fetch_add(&call->next, 1, __ATOMIC_RELAXED)) < call->n) {
    const uint8_t *image = (const uint8_t *)(uintptr_t)call->image_at[i];
    const int32_t *extent = call->extents + 2 * i, *window = call->windows + 5 * i;
    uint8_t *to = call->views + (size_t)i * bytes;
    char *message = call->messages + (size_t)i * MESSAGE;
    int done;
    message[0] = 0;
    if (!call->image_bytes[i]) /* a slot without an image */
      done = 1, memset(to, 0, bytes);
    else if (!inside(window, extent))
      done = 1, snprintf(message, MESSAGE, "the window is outside");
    else if (call->raw_channels)
      done = resize_pixels(&worker, image, extent[1], call->raw_channels, window, to);
    else if (image[0] == 0xff)
      done = view_jpeg(&worker, image, call->image_bytes[i], extent, window, to, message);
    else
      done = view_png(&worker, image, call->image_bytes[i], extent, window, to, message);
    if (!done) snprintf(message, MESSAGE, "there is not enough memory");
    if (message[0]) memset(to, 0, bytes);
  }
  Room *rooms[] = {&worker.columns, &worker.rows, &worker.kept, &worker.row, &worker.pixels};
  for (size_t k = 0; k < sizeof rooms / sizeof *rooms; k++) free(rooms[k]->memory);
  return NULL;
}

/* Decodes, crops and resizes n images; black, and a message, where one cannot be decoded. */
void samestep_views(Call *call) {
  enum { MOST = 64 };
  pthread_t threads[MOST];
  int started = 0, wanted = call->threads < MOST ? call->threads : MOST;
#if defined(__x86_64__)
  call->simd = call->simd && __builtin_cpu_supports("avx2");
#endif
  call->next = 0;
  while (started + 1 < wanted && !pthread_create(&threads[started], NULL, work, call)) started++;
  work(call);
  while (started) pthread_join(threads[--started], NULL);
}

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

/* What the pixels depend on. */
const char *samestep_version(void) {
  return "native 1, libjpeg-turbo " TEXT(LIBJPEG_TURBO_VERSION) ", libpng " PNG_LIBPNG_VER_STRING;
}
