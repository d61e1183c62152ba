package lvm.jobserver;

import org.apache.beam.runners.flink.FlinkJobInvoker;
import org.apache.beam.runners.flink.FlinkJobServerDriver.FlinkServerConfiguration;
import org.apache.beam.runners.jobsubmission.JobServerDriver;
import org.apache.beam.sdk.io.FileSystems;
import org.apache.beam.sdk.options.PipelineOptionsFactory;

/** Beam's job server for Flink, which only this machine reaches. */
public final class FlinkJobServer extends JobServerDriver {
  private FlinkJobServer(FlinkServerConfiguration configuration) {
    super(
        configuration,
        new LoopbackServers(),
        new LoopbackServers(),
        () -> FlinkJobInvoker.create(configuration));
  }

  public static void main(String[] words) {
    FileSystems.setDefaultPipelineOptions(PipelineOptionsFactory.create());
    new FlinkJobServer(LoopbackServers.parse(new FlinkServerConfiguration(), words)).run();
  }
}
