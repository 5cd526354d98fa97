// SPDX-License-Identifier: Apache-2.0
// Loaded before libc (LD_PRELOAD): from the n-th write into a folder on, the disk of that folder is
// full. Counted is whatever can need room: writes, new files and folders, and flushing to the disk.
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>

namespace {

char folder[4096];
std::atomic<long> made{0};
long allowed = -1;  // -1: all
int failure = ENOSPC;

template <class F>
F* real(const char* name) {
  return reinterpret_cast<F*>(dlsym(RTLD_NEXT, name));
}

bool fails_at(const char* path) {
  const size_t length = strlen(folder);
  if (length == 0 || strncmp(path, folder, length) != 0) return false;
  const long number = made++;
  if (allowed < 0 || number < allowed) return false;
  errno = failure;
  return true;
}

bool fails(int file) {
  if (folder[0] == 0) return false;
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  const ssize_t length = readlink(link, path, sizeof path - 1);
  if (length <= 0) return false;
  path[length] = 0;
  return fails_at(path);
}

bool creates(const char* path, int flags) {
  return (flags & O_CREAT) != 0 && access(path, F_OK) != 0;
}

}  // namespace

extern "C" {

void fault_arm(const char* where, long writes, int error) {
  snprintf(folder, sizeof folder, "%s", where);
  made = 0;
  allowed = writes;
  failure = error;
}

long fault_count() { return made; }

ssize_t write(int file, const void* data, size_t size) {
  static auto* const next = real<ssize_t(int, const void*, size_t)>("write");
  return fails(file) ? -1 : next(file, data, size);
}

ssize_t pwrite64(int file, const void* data, size_t size, off64_t at) {
  static auto* const next = real<ssize_t(int, const void*, size_t, off64_t)>("pwrite64");
  return fails(file) ? -1 : next(file, data, size, at);
}

ssize_t writev(int file, const struct iovec* parts, int count) {
  static auto* const next = real<ssize_t(int, const struct iovec*, int)>("writev");
  return fails(file) ? -1 : next(file, parts, count);
}

size_t fwrite(const void* data, size_t size, size_t count, FILE* stream) {
  static auto* const next = real<size_t(const void*, size_t, size_t, FILE*)>("fwrite");
  return fails(fileno(stream)) ? 0 : next(data, size, count, stream);
}

int fsync(int file) {
  static auto* const next = real<int(int)>("fsync");
  struct stat about;  // flushing a folder needs no room
  if (fstat(file, &about) == 0 && S_ISDIR(about.st_mode)) return next(file);
  return fails(file) ? -1 : next(file);
}

int open64(const char* path, int flags, ...) {
  static auto* const next = real<int(const char*, int, ...)>("open64");
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = va_arg(rest, mode_t);
  va_end(rest);
  if (creates(path, flags) && fails_at(path)) return -1;
  return next(path, flags, mode);
}

int mkdir(const char* path, mode_t mode) {
  static auto* const next = real<int(const char*, mode_t)>("mkdir");
  if (access(path, F_OK) != 0 && fails_at(path)) return -1;
  return next(path, mode);
}

}  // extern "C"
