# Restricted cubic splines by Hmisc and rms. Run in this folder: Rscript make.R
suppressMessages({library(survival); library(rms); library(jsonlite)})
lung <- read.csv("../survival/data/lung.csv")
lung <- subset(lung, !is.na(ph.ecog) & !is.na(inst))
lung$event <- lung$status == 2
out <- list(knots = lapply(3:7, function(k) rcspline.eval(lung$age, nk = k, knots.only = TRUE)),
            few = rcspline.eval(lung$age[1:60], nk = 4, knots.only = TRUE))
x <- c(30, 45, 60, 75, 90)
out$basis <- unname(unclass(rcspline.eval(x, knots = out$knots[[3]], inclx = TRUE, norm = 2))[,])
assign("dd", datadist(lung)); options(datadist = "dd")
k <- out$knots[[2]]
fit <- cph(Surv(time, event) ~ rcs(age, k) + sex, lung, x = TRUE, y = TRUE, eps = 1e-12)
out$coef <- unname(coef(fit)); out$se <- unname(sqrt(diag(vcov(fit))))
a <- anova(fit)
out$nonlinear <- unname(a[grep("Nonlinear", rownames(a))[1], ])
con <- contrast(fit, list(age = c(45, 60, 80)), list(age = 65))
out$contrast <- list(values = c(45, 60, 80), log_hr = unname(con$Contrast), se = unname(con$SE),
                     lo = unname(con$Lower), hi = unname(con$Upper))
out$versions <- list(R = R.version.string, rms = as.character(packageVersion("rms")),
                     Hmisc = as.character(packageVersion("Hmisc")))
write_json(out, "expected.json", digits = NA, auto_unbox = TRUE, pretty = TRUE)
