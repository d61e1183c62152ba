# Reference figures for incidence rates and their ratios. Run in this folder: Rscript make.R
suppressMessages(library(jsonlite))
single <- list(c(0, 12.5), c(1, 3), c(7, 410.25), c(112, 107.011635865845), c(2500, 81234.5))
pairs <- list(c(11, 15, 800, 1083), c(0, 9, 120.5, 310), c(4, 0, 55, 61), c(41, 15, 28010, 19017),
              c(300, 260, 10000.5, 9100.25), c(2, 2, 10, 40))
test <- function(x, level) {
  t <- poisson.test(x[1:2], x[3:4], conf.level = level)
  list(events = x[1], reference_events = x[2], person_time = x[3], reference_person_time = x[4],
       level = level, ratio = unname(t$estimate), lo = t$conf.int[1], hi = t$conf.int[2], p = t$p.value)
}
rate <- function(x, level) {
  t <- poisson.test(x[1], x[2], conf.level = level)
  list(events = x[1], person_time = x[2], level = level, rate = unname(t$estimate),
       lo = t$conf.int[1], hi = t$conf.int[2])
}
out <- list(
  rates = c(lapply(single, rate, .95), lapply(single, rate, .9)),
  ratios = c(lapply(pairs, test, .95), lapply(pairs, test, .99)),
  versions = list(R = R.version.string))
write_json(out, "expected.json", digits = NA, na = "null", auto_unbox = TRUE)
