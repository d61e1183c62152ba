# Reference figures of analysis/statistics/accuracy/roc.py and diagnostic.py. Run from tests/golden/roc: Rscript make.R
Sys.setenv(TZ = "UTC")
suppressMessages({library(pROC); library(jsonlite); library(epiR)})
RNGkind("Mersenne-Twister", "Inversion", "Rejection")
set.seed(20240117)

# --- synthetic people: ties, a label of about 30 %, three markers, two rules, two risks ---------
n <- 200
latent <- rnorm(n)
lvh <- as.integer(latent + rnorm(n) > 0.8)
people <- data.frame(
  lvh = lvh,
  sex = ifelse(runif(n) < 0.55, "female", "male"),
  marker_a = round(2 * (latent + rnorm(n, sd = 0.7))) / 2,
  marker_b = round(latent + rnorm(n, sd = 1.5), 1),
  marker_c = sample(0:3, n, replace = TRUE)
)
people$rule_a <- as.integer(people$marker_a > 1)
people$rule_b <- as.integer(people$marker_b > 1.5)
people$risk_a <- round(plogis(-1 + 1.2 * people$marker_a), 2)
people$risk_b <- round(plogis(-1 + 0.5 * people$marker_b), 3)
write.csv(people, "people.csv", row.names = FALSE)
people <- read.csv("people.csv")

# --- the data of tests/golden/survival -----------------------------------------------------------
veteran <- read.csv("../survival/data/veteran.csv")
veteran$label <- as.integer(veteran$time <= 90 & veteran$status == 1)
veteran$low_karno <- as.integer(veteran$karno < 60)
veteran$large <- as.integer(veteran$celltype == "large" | veteran$celltype == "smallcell")
lung <- read.csv("../survival/data/lung.csv")
lung$label <- as.integer(lung$status == 2)
lung <- lung[complete.cases(lung[, c("label", "ph.ecog", "pat.karno", "wt.loss")]), ]

roc_of <- function(data, label, marker) {
  roc(data[[label]], data[[marker]], levels = c(0, 1), direction = "<", quiet = TRUE)
}
one <- function(data, label, marker, level = 0.95) {
  r <- roc_of(data, label, marker)
  ci <- suppressWarnings(as.numeric(ci.auc(r, conf.level = level, method = "delong")))
  list(auc = as.numeric(auc(r)), se = sqrt(var(r, method = "delong")), lo = ci[1], hi = ci[3],
       n_positive = length(r$cases), n_negative = length(r$controls))
}
pair <- function(data, label, a, b) {
  ra <- roc_of(data, label, a); rb <- roc_of(data, label, b)
  test <- roc.test(ra, rb, method = "delong", paired = TRUE)
  list(z = as.numeric(test$statistic), p = test$p.value,
       lo = test$conf.int[1], hi = test$conf.int[2], covariance = cov(ra, rb, method = "delong"))
}
curve_of <- function(data, label, marker) {
  r <- roc_of(data, label, marker)
  list(sensitivity = r$sensitivities, specificity = r$specificities)
}
accuracy <- function(y, x) {
  tp <- sum(y & x); fp <- sum(!y & x); fn <- sum(y & !x); tn <- sum(!y & !x); n <- length(y)
  share <- function(k, of) {
    ci <- suppressWarnings(prop.test(k, of, correct = FALSE)$conf.int)
    list(estimate = k / of, lo = ci[1], hi = ci[2])
  }
  epi <- suppressWarnings(summary(epi.tests(as.table(matrix(c(tp, fp, fn, tn), 2, byrow = TRUE)))))
  ratio <- function(name) {
    row <- epi[epi$statistic == name, ]
    list(estimate = row$est, lo = row$lower, hi = row$upper)
  }
  list(tp = tp, fp = fp, fn = fn, tn = tn, measures = list(
    sensitivity = share(tp, tp + fn), specificity = share(tn, tn + fp),
    ppv = share(tp, tp + fp), npv = share(tn, tn + fn), prevalence = share(tp + fn, n),
    predicted_prevalence = share(tp + fp, n),
    lr_positive = ratio("lr.pos"), lr_negative = ratio("lr.neg")))
}
mcnemar <- function(a, b) {
  counts <- table(factor(a, 0:1), factor(b, 0:1))
  only_a <- counts["1", "0"]; only_b <- counts["0", "1"]
  plain <- mcnemar.test(counts, correct = FALSE); edwards <- mcnemar.test(counts)
  # The Wald limits: one person contributes a - b; the variance with n as its divisor.
  d <- a - b
  wald <- mean(d) + c(-1, 1) * qnorm(0.975) * sqrt(mean((d - mean(d))^2) / length(d))
  list(n = length(a), only_a = only_a, only_b = only_b,
       both = counts["1", "1"], neither = counts["0", "0"],
       exact = binom.test(only_a, only_a + only_b)$p.value,
       chi2 = as.numeric(plain$statistic), p = plain$p.value,
       chi2_corrected = as.numeric(edwards$statistic), p_corrected = edwards$p.value,
       difference = mean(d), lo = wald[1], hi = wald[2])
}
# Step-wise average precision and the logit interval of Boyd et al. 2013, written from the paper.
average_precision <- function(y, x) {
  cuts <- sort(unique(x), decreasing = TRUE)
  precision <- sapply(cuts, function(cut) mean(y[x >= cut]))
  recall <- sapply(cuts, function(cut) sum(y[x >= cut]) / sum(y))
  ap <- sum(diff(c(0, recall)) * precision)
  limits <- plogis(qlogis(ap) + c(-1, 1) * qnorm(0.975) / sqrt(sum(y) * ap * (1 - ap)))
  list(average_precision = ap, lo = limits[1], hi = limits[2])
}
# Net benefit as the mean over people of what each contributes.
net_benefit <- function(y, risk, cuts) {
  lapply(cuts, function(cut) {
    b <- (risk >= cut) * (y - (1 - y) * cut / (1 - cut))
    se <- sqrt(mean((b - mean(b))^2) / length(b))
    list(threshold = cut, net_benefit = mean(b), se = se,
         lo = mean(b) - qnorm(0.975) * se, hi = mean(b) + qnorm(0.975) * se)
  })
}

cuts <- c(0.05, 0.1, 0.2, 0.3, 0.5, 0.75)
markers <- c("marker_a", "marker_b", "marker_c")
rules <- c("rule_a", "rule_b")
sick <- people[people$lvh == 1, ]; well <- people[people$lvh == 0, ]
wilson <- expand.grid(x = c(0, 1, 2, 7, 9, 10), n = 10)
of_all <- function(names, f) setNames(lapply(names, f), names)

expected <- list(
  people = list(
    auroc = of_all(markers, function(m) one(people, "lvh", m)),
    auroc_90 = one(people, "lvh", "marker_a", 0.9),
    auroc_female = one(people[people$sex == "female", ], "lvh", "marker_a"),
    auroc_male = one(people[people$sex == "male", ], "lvh", "marker_a"),
    compare_ab = pair(people, "lvh", "marker_a", "marker_b"),
    compare_ac = pair(people, "lvh", "marker_a", "marker_c"),
    compare_bc = pair(people, "lvh", "marker_b", "marker_c"),
    curve = of_all(markers, function(m) curve_of(people, "lvh", m)),
    binary = of_all(rules, function(m) one(people, "lvh", m)),
    compare_rules = pair(people, "lvh", "rule_a", "rule_b"),
    accuracy = of_all(rules, function(m) accuracy(people$lvh == 1, people[[m]] == 1)),
    mcnemar_all = mcnemar(people$rule_a, people$rule_b),
    mcnemar_positive = mcnemar(sick$rule_a, sick$rule_b),
    mcnemar_negative = mcnemar(well$rule_a, well$rule_b),
    average_precision = of_all(markers, function(m) average_precision(people$lvh, people[[m]])),
    net_benefit = list(
      risk_a = net_benefit(people$lvh, people$risk_a, cuts),
      risk_b = net_benefit(people$lvh, people$risk_b, cuts),
      treat_all = net_benefit(people$lvh, rep(1, n), cuts),
      treat_none = net_benefit(people$lvh, rep(0, n), cuts))),
  veteran = list(
    auroc = of_all(c("karno", "age", "diagtime"), function(m) one(veteran, "label", m)),
    compare = pair(veteran, "label", "age", "karno"),
    binary = of_all(c("low_karno", "large"), function(m) one(veteran, "label", m)),
    compare_rules = pair(veteran, "label", "low_karno", "large"),
    accuracy = accuracy(veteran$label == 1, veteran$low_karno == 1),
    average_precision = average_precision(veteran$label, veteran$age)),
  lung = list(
    n = nrow(lung),
    auroc = of_all(c("ph.ecog", "pat.karno", "wt.loss"), function(m) one(lung, "label", m)),
    compare = pair(lung, "label", "ph.ecog", "wt.loss")),
  identical_markers = pair(people, "lvh", "marker_a", "marker_a"),
  constant_marker = one(transform(people, same = 1), "lvh", "same"),
  wilson = lapply(seq_len(nrow(wilson)), function(i) {
    ci <- suppressWarnings(prop.test(wilson$x[i], wilson$n[i], correct = FALSE)$conf.int)
    list(x = wilson$x[i], n = wilson$n[i], lo = ci[1], hi = ci[2])
  }),
  versions = list(R = R.version.string, pROC = as.character(packageVersion("pROC")),
                  epiR = as.character(packageVersion("epiR")),
                  jsonlite = as.character(packageVersion("jsonlite")))
)
writeLines(toJSON(expected, digits = NA, auto_unbox = TRUE, pretty = TRUE), "expected.json")
