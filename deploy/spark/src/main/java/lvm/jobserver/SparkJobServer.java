package lvm.jobserver;

import org.apache.beam.runners.spark.SparkJobInvoker;
import org.apache.beam.runners.spark.SparkJobServerDriver.SparkServerConfiguration;
import org.apache.beam.runners.jobsubmission.JobServerDriver;
import org.apache.beam.sdk.io.FileSystems;
import org.apache.beam.sdk.options.PipelineOptionsFactory;

/** Beam's job server for Spark, which only this machine reaches. */
public final class SparkJobServer extends JobServerDriver {
  private SparkJobServer(SparkServerConfiguration configuration) {
    super(
        configuration,
        new LoopbackServers(),
        new LoopbackServers(),
        () -> SparkJobInvoker.create(configuration));
  }

  public static void main(String[] words) {
    FileSystems.setDefaultPipelineOptions(PipelineOptionsFactory.create());
    new SparkJobServer(LoopbackServers.parse(new SparkServerConfiguration(), words)).run();
  }
}
