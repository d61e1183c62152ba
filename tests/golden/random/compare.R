# Fit the models of cases.json with R and write out.json; see tests/analysis/test_random_against_r.py.
# Run as: Rscript compare.R FOLDER
suppressMessages({library(survival); library(cmprsk); library(jsonlite)})
folder <- commandArgs(trailingOnly = TRUE)[1]
cases <- fromJSON(file.path(folder, "cases.json"), simplifyVector = FALSE)
tight <- coxph.control(eps = 1e-12, toler.chol = 1e-13, iter.max = 60)

cox <- function(case, data) {
  outcome <- if (case$entry) "Surv(entry, time, event)" else "Surv(time, event)"
  stratum <- if (case$strata) "+ strata(g)" else ""
  call <- list(as.formula(paste(outcome, "~ x1 + x2 + x3", stratum)), data = data,
               ties = case$ties, control = tight)
  if (case$weights) call$weights <- quote(w)
  if (case$cluster) call$cluster <- quote(id)
  else if (case$robust || case$weights) call$cluster <- quote(row)
  do.call(coxph, call)
}

answer <- function(case) {
  data <- read.csv(file.path(folder, case$file))
  fit <- cox(case, data)
  found <- concordance(fit)
  out <- list(coef = unname(coef(fit)), se = unname(sqrt(diag(vcov(fit)))), loglik = fit$loglik,
              concordance = c(unname(found$concordance), unname(sqrt(found$var))))
  out$zph <- lapply(c(km = "km", rank = "rank", identity = "identity", log = "log"),
                    function(g) unname(cox.zph(fit, g)$table[, 1]))
  new <- data.frame(x1 = mean(data$x1) + c(0, sd(data$x1)), x2 = c(1, 0), x3 = c(0.2, -0.3),
                    g = data$g[1:2])
  out$survival <- lapply(1:2, function(i) {
    curve <- survfit(fit, newdata = new[i, ], conf.type = "log-log")
    curve <- summary(curve, times = unlist(case$times), extend = TRUE)
    list(survival = curve$surv)
  })
  if (!case$entry && !case$strata) {
    uno <- concordance(fit, timewt = "n/G2")
    out$uno <- c(unname(uno$concordance), unname(sqrt(uno$var)))
  }
  if (!case$entry) {
    expanded <- finegray(Surv(time, factor(status, 0:2)) ~ ., data, etype = "1")
    fg <- coxph(Surv(fgstart, fgstop, fgstatus) ~ x1 + x2 + x3, expanded, weights = fgwt,
                cluster = row, control = tight)
    out$fine_gray <- list(coef = unname(coef(fg)), se = unname(sqrt(diag(vcov(fg)))))
    crr <- crr(data$time, data$status, data[, c("x1", "x2", "x3")], gtol = 1e-12, maxiter = 50)
    out$crr <- list(coef = unname(crr$coef), se = unname(sqrt(diag(crr$var))))
    out$gray <- unname(cuminc(data$time, data$status, data$g)$Tests[, 1])
  }
  out
}

# Fits that R warns of (no convergence, infinite coefficients) are named, not compared.
answers <- lapply(cases, function(case)
  tryCatch(answer(case), warning = function(w) list(warning = conditionMessage(w)),
           error = function(e) list(warning = conditionMessage(e))))
write_json(answers, file.path(folder, "out.json"), digits = NA, auto_unbox = TRUE, na = "null")
